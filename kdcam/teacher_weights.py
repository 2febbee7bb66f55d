"""Which weights a run's teachers had, told by the digests of their files."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcam.checkpoint import MODEL_FILE

WEIGHTS_KEY = "teacher_weights"
"""The key of recipe.json under which they are kept: checkpoint -> digest."""


def file_digest(file: Path) -> str | None:
    """Return the SHA-256 of a file; None where it cannot be read."""
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return None


def checkpoint_digest(checkpoint: str) -> str | None:
    """Return the SHA-256 of a teacher's weights; None for a network's name, and for files that are gone."""
    path = Path(checkpoint).expanduser()
    return file_digest(path / MODEL_FILE if path.is_dir() else path)


def digests_of(recipe: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the digest of each teacher of a resolved recipe by its checkpoint."""
    teachers = recipe.get("teacher") or []
    tables = [teachers] if isinstance(teachers, Mapping) else teachers
    return {str(one["checkpoint"]): checkpoint_digest(str(one["checkpoint"])) for one in tables}


def changed_teacher(record: Mapping[str, Any], now: Mapping[str, str | None]) -> str | None:
    """Return the first checkpoint whose weights are others now than those that recipe.json tells; None: none is.

    What is unknown on either side (a network's name, a file that is gone, a run of before digests were kept) counts
    as unchanged.
    """
    before = record.get(WEIGHTS_KEY)
    kept = before if isinstance(before, Mapping) else {}
    for checkpoint, digest in now.items():
        then = kept.get(checkpoint)
        if digest is not None and then is not None and digest != then:
            return checkpoint
    return None


__all__ = ["WEIGHTS_KEY", "changed_teacher", "checkpoint_digest", "digests_of", "file_digest"]
