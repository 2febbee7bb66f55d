"""What a cache's contents depend on, as the table that lies beside them in cache.json."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from kdcam.data.batches.batch import Views
from kdcam.data.batches.image_digests import ImagesDigest
from kdcam.data.dataset_parts import Part
from kdcam.files.digests import weights_digest
from kdcam.files.json_files import first_difference, json_form, value_text
from kdcam.models.classifier import Classifier
from kdcam.runtime.precision import Precision

FORMAT = 1  # of the files and of how views are drawn; another number is another cache
_LONGEST = 40  # characters of a value in words: a digest is told by its first ones
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


class DataKey(NamedTuple):
    """The training images."""

    images: int  # how many
    image_size: int
    digest: ImagesDigest


# What decides that a cache fits: docs/decisions/014.
class CacheKey(NamedTuple):
    """What a teacher's outputs for all views of the training images follow from.

    The targets are not in it: the map of the label, which alone depends on them, has their digest in its name.
    """

    teacher: TeacherIdentity
    data: DataKey
    augment: tuple[str, ...]  # sorted
    views: Views
    precision: str  # float32, bfloat16, float16

    def table(self) -> dict[str, Any]:
        """Return the key as cache.json holds it."""
        images, image_size, digest = self.data
        return dict(
            json_form(
                {
                    "format": FORMAT,
                    "teacher": self.teacher._asdict(),
                    "data": {"images": images, "image_size": image_size, digest.of: digest.sha256},
                    "augment": self.augment,
                    "views": self.views.per_image,
                    "views_seed": self.views.seed,
                    "precision": self.precision,
                }
            )
        )

    @property
    def name(self) -> str:
        """The name of the folder that is this key's own."""
        text = json.dumps(self.table(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def teacher_identity(teacher: Classifier) -> TeacherIdentity:
    """Return who a teacher is that was read and not folded yet."""
    architecture = teacher.config.model_dump(mode="json", exclude=_START)
    return TeacherIdentity(architecture, weights_digest(teacher.network), *teacher.preprocessing)


def cache_key(
    teacher: TeacherIdentity,
    train: Part,
    *,
    images: ImagesDigest,
    image_size: int,
    augment: tuple[str, ...],
    views: Views,
    precision: Precision,
) -> CacheKey:
    """Return the key of a teacher's outputs for all views of the training images; ``images``: their digest."""
    return CacheKey(
        teacher=teacher,
        data=DataKey(len(train), image_size, images),
        augment=tuple(sorted(augment)),
        views=views,
        precision=str(precision.dtype).removeprefix("torch."),
    )


def key_difference(found: Any, wanted: CacheKey) -> str | None:
    """Return where the key of a cache.json first differs from the one that is wanted, in words; None: nowhere."""
    difference = first_difference(found, wanted.table())
    if difference is None:
        return None
    place, there, here = difference
    return f"{place or 'key'} is {_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    text = value_text(value)
    return text if len(text) <= _LONGEST else f"{text[:12]} ..."


__all__ = [
    "FORMAT",
    "CacheKey",
    "DataKey",
    "TeacherIdentity",
    "cache_key",
    "key_difference",
    "teacher_identity",
]
