"""robustness-progress.json: what a robustness evaluation has found so far, so that the same command goes on."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor

from kdcam.atomic import write_atomically
from kdcam.errors import CheckpointError
from kdcam.json_files import plain, read_json
from kdcam.weights import read_tensors_and_metadata, tensor_bytes

PROGRESS_FILE = "robustness-progress.json"
TENSORS_FILE = "robustness-progress.safetensors"

Section = TypeVar("Section", bound=BaseModel)

PENDING, FELL, STANDS = ord("."), ord("0"), ord("1")
"""What a mark says of an image: nothing yet, that it is wrong, that it is right. A file holds them as text."""


class Work:
    """What has been found so far, in memory and, with a folder, in files written whole after each batch.

    Everything hangs on ``key``, the digest of all that decides the result: what was kept under another key is
    left aside and overwritten. ``fresh``: so is what was kept under the same key.
    """

    def __init__(self, folder: Path | None = None, *, key: str = "", fresh: bool = False) -> None:
        self._folder, self._key = folder, key
        self._marks: dict[str, Tensor] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._sections: dict[str, Any] = {}
        self._tensors: dict[str, Tensor] = {}
        self.resumed = folder is not None and not fresh and self._read(folder)

    def marks(self, name: str, images: int) -> Tensor:
        """Return the marks (images,) uint8 of one piece of work, to be changed in place; all pending at first."""
        return self._marks.setdefault(name, torch.full((images,), PENDING, dtype=torch.uint8))

    def counts(self, name: str) -> dict[str, int]:
        """Return the counts of one piece of work, to be changed in place; empty at first."""
        return self._counts.setdefault(name, {})

    def rows(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return float32 rows of one piece of work, to be changed in place; zeros at first."""
        return self._tensors.setdefault(name, torch.zeros(shape))

    def section(self, name: str, kind: type[Section], make: Callable[[], Section]) -> Section:
        """Return a section as it was kept; made and kept where it is not yet."""
        if name not in self._sections:
            self._sections[name] = make().model_dump(mode="json")
            self.save()
        return kind.model_validate(self._sections[name])

    def save(self) -> None:
        """Write the files; ``CheckpointError`` where that cannot be."""
        if self._folder is None:
            return
        # The tensors first: marks that say "done" must never be ahead of them.
        if self._tensors:
            data = tensor_bytes(self._tensors, {"key": self._key})
            write_atomically(self._folder / TENSORS_FILE, data)
        document = {
            "key": self._key,
            "marks": {name: bytes(marks.numpy()).decode("ascii") for name, marks in self._marks.items()},
            "counts": self._counts,
            "sections": self._sections,
        }
        write_atomically(self._folder / PROGRESS_FILE, json.dumps(plain(document)).encode())

    def finish(self) -> None:
        """Remove the files: the result is written."""
        if self._folder is not None:
            for name in (PROGRESS_FILE, TENSORS_FILE):
                (self._folder / name).unlink(missing_ok=True)

    def _read(self, folder: Path) -> bool:
        if not (folder / PROGRESS_FILE).exists():
            return False
        document = read_json(folder / PROGRESS_FILE)
        if document.get("key") != self._key:
            return False
        try:
            self._marks = {name: _marks(text) for name, text in document["marks"].items()}
            self._counts = {name: dict(counts) for name, counts in document["counts"].items()}
            self._sections = dict(document["sections"])
        except (KeyError, AttributeError, TypeError, UnicodeError) as error:
            raise CheckpointError(
                f"{folder / PROGRESS_FILE}: not as kdcam writes it ({error!r}); remove the file to start over"
            ) from error
        if (folder / TENSORS_FILE).exists():
            tensors, metadata = read_tensors_and_metadata(
                folder / TENSORS_FILE, way_out=f"remove it and {PROGRESS_FILE} to start over"
            )
            self._tensors = tensors if metadata.get("key") == self._key else {}
        return True


def combined_digest(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of named values that JSON takes, whatever their order."""
    from hashlib import sha256

    return sha256(json.dumps(plain(parts), sort_keys=True).encode()).hexdigest()


def _marks(text: str) -> Tensor:
    return torch.frombuffer(bytearray(text.encode("ascii")), dtype=torch.uint8)


__all__ = [
    "FELL",
    "PENDING",
    "PROGRESS_FILE",
    "STANDS",
    "TENSORS_FILE",
    "Work",
    "combined_digest",
]
