"""What a cache's contents depend on, as the table that lies beside them in cache.json."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.data.idx import data_root
from kdcam.data.parts import Part
from kdcam.data.views import Views
from kdcam.json_files import plain
from kdcam.models.classifier import Classifier
from kdcam.precision import Precision
from kdcam.teacher_cache.fingerprints import weights_digest

FORMAT = 1  # of the files; another number is another layout
_START = {
    "pretrained",
    "weights",
    "mean",
    "std",
}  # of ModelConfig: what the weights and statistics tell better


class TeacherIdentity(NamedTuple):
    """A teacher as it was read, before anything is folded in it."""

    architecture: Mapping[str, Any]
    weights: str  # digest
    mean: tuple[float, ...]
    std: tuple[float, ...]


def identify(teacher: Classifier) -> TeacherIdentity:
    """Return who a teacher is that was read and not folded yet."""
    architecture = teacher.config.model_dump(mode="json", exclude=_START)
    return TeacherIdentity(architecture, weights_digest(teacher.network), *teacher.preprocessing)


def cache_key(
    teacher: TeacherIdentity,
    train: Part,
    *,
    images: str,
    image_size: int,
    augment: tuple[str, ...],
    views: Views,
    precision: Precision,
) -> dict[str, Any]:
    """Return the key of a teacher's outputs for all views of the training images; ``images``: their digest.

    The targets are not in it: the map of the label, which alone depends on them, has their digest in its name.
    """
    key = {
        "format": FORMAT,
        "teacher": teacher._asdict(),
        "data": {"images": len(train), "image_size": image_size, "digest": images},
        "augment": sorted(augment),
        "views": views.per_image,
        "views_seed": views.seed,
        "precision": str(precision.dtype).removeprefix("torch."),
    }
    return dict(plain(key))


def default_folder(key: Mapping[str, Any]) -> Path:
    """Return the folder below kdcam's cache folder that is this key's own."""
    text = json.dumps(key, sort_keys=True)
    return caches_folder() / hashlib.sha256(text.encode()).hexdigest()[:24]


def caches_folder() -> Path:
    """Return the folder that holds the caches whose place no recipe names."""
    return data_root(None).parent / "teachers"


def first_difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return where two keys first differ, in words; None where they are equal."""
    there, here = dict(_flat(found)), dict(_flat(wanted))
    for name in {**here, **there}:
        if there.get(name) != here.get(name):
            return f"{name} is {_shown(there.get(name))} there, {_shown(here.get(name))} here"
    return None


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(value: Any) -> str:
    text = "not set" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:12]} ..."


__all__ = [
    "FORMAT",
    "TeacherIdentity",
    "cache_key",
    "caches_folder",
    "default_folder",
    "first_difference",
    "identify",
]
