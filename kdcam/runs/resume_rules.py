"""Which weights a run's teachers and its start had, told by digests: of files, or of a named network's weights."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcam.errors import CheckpointError
from kdcam.files.paths import expanded, is_folder
from kdcam.files.weight_location import location_kind
from kdcam.runs.run_files import CONFIG_FILE, MODEL_FILE

WEIGHTS_KEY = "teacher_weights"
"""The key of recipe.json under which they are kept: checkpoint -> digest."""

WeightDigests = Mapping[str, str | None]  # by checkpoint


def file_digest(file: Path) -> str | None:
    """Return the SHA-256 of a file; None where it cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def checkpoint_digest(checkpoint: str) -> str | None:
    """Return the SHA-256 of the weights of a teacher or start and, behind it, of the config.json beside them.

    The config.json, where there is one, tells statistics and head. None for a network's name, and for files and
    packages that are gone.
    """
    if location_kind(checkpoint) == "package":
        return _package_digest(checkpoint)
    path = expanded(checkpoint)
    folder, file = (path, path / MODEL_FILE) if is_folder(path) else (path.parent, path)
    weights = file_digest(file)
    if weights is None:
        return None
    config = file_digest(folder / CONFIG_FILE)
    return weights if config is None else f"{weights} {config}"


def _package_digest(place: str) -> str | None:
    from kdcam.models.weights.packaged_weights import package_file

    try:
        return file_digest(package_file(place))
    except CheckpointError:
        return None


def weight_digests(recipe: Mapping[str, Any], named: WeightDigests | None = None) -> dict[str, str | None]:
    """Return the digest of each teacher and of the start of a resolved recipe by its checkpoint.

    ``named``: those of networks' names, where they are loaded.
    """
    teachers = recipe.get("teacher") or []
    tables = [teachers] if isinstance(teachers, Mapping) else teachers
    checkpoints = [str(one["checkpoint"]) for one in (*tables, recipe.get("init")) if one is not None]
    return {one: (named or {}).get(one) or checkpoint_digest(one) for one in checkpoints}


def changed_weights(record: Mapping[str, Any], now: WeightDigests) -> str | None:
    """Return the first checkpoint whose weights are others now than those that recipe.json tells; None: none is.

    What is unknown on either side (a network that is not loaded, a file that is gone, a run of before a digest was
    kept) counts as unchanged.
    """
    before = record.get(WEIGHTS_KEY)
    kept = before if isinstance(before, Mapping) else {}
    for checkpoint, digest in now.items():
        then = kept.get(checkpoint)
        if digest is not None and isinstance(then, str) and _differ(then, digest):
            return checkpoint
    return None


def check_same_weights(run: Path, record: Mapping[str, Any], now: WeightDigests, *, what: str) -> None:
    """Raise ``CheckpointError`` where a run's recipe.json tells of other weights of a teacher than there are now.

    ``what``: "a finished run", "an unfinished run".
    """
    changed = changed_weights(record, now)
    if changed is not None:
        raise CheckpointError(
            f"{run}: holds {what} under other weights of the teacher or start {changed} (or another {CONFIG_FILE} "
            "beside them) than there are now; give it its former weights back, remove this folder to run it anew, or "
            "choose another one with --output"
        )


def _differ(then: str, now: str) -> bool:
    # A run of before config.json counted has the digest of the weights alone.
    return any(one != other for one, other in zip(then.split(), now.split(), strict=False))


__all__ = [
    "WEIGHTS_KEY",
    "WeightDigests",
    "changed_weights",
    "check_same_weights",
    "checkpoint_digest",
    "file_digest",
    "weight_digests",
]
