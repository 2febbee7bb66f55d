"""robustness-progress-KEY.json: what a section of an evaluation has found so far, so that the same command goes on."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from kdcam.errors import CheckpointError, FolderInUseError, Interrupted
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.json_files import json_form, read_json
from kdcam.files.paths import exists
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import reason_text

PROGRESS_STEM = "robustness-progress-"
_DIGITS = 12  # of a key in a file's name
_TENSORS = ".safetensors"

# What a mark says of an image, nothing yet, that it is wrong, that it is right: as text in the file.
PENDING = ord(".")
FELL = ord("0")
STANDS = ord("1")

SectionModel = TypeVar("SectionModel", bound=BaseModel)


class PartialResults:
    """What has been found so far, in memory and, with a folder, in files written whole after each batch.

    The files belong to ``key``, the digest of all that decides the result: files of other keys beside them are left
    alone. ``fresh``: what was kept under the same key is overwritten.
    """

    def __init__(self, folder: Path | None = None, *, key: str = "", fresh: bool = False) -> None:
        self._folder, self._key = folder, key
        self._marks: dict[str, Tensor] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._sections: dict[str, Any] = {}
        self._tensors: dict[str, Tensor] = {}
        self._turn = 0  # which of the two tensor files is written next
        self.note: str | None = None  # why files that are there are not gone on with
        self.resumed = folder is not None and not fresh and self._read(folder)

    @property
    def name(self) -> str:
        """Its file's name."""
        return f"{PROGRESS_STEM}{self._key[:_DIGITS]}.json"

    def marks(self, name: str, images: int) -> Tensor:
        """Return the marks (images,) uint8 of one stage, to be changed in place; all pending at first.

        Raises ``CheckpointError`` where the file holds those of another number of images.
        """
        marks = self._marks.setdefault(name, torch.full((images,), PENDING, dtype=torch.uint8))
        if len(marks) != images:
            raise self._spoilt(f"{len(marks)} marks of {name} where there are {images} images")
        return marks

    def counts(self, name: str) -> dict[str, int]:
        """Return the counts of one stage, to be changed in place; empty at first."""
        return self._counts.setdefault(name, {})

    def rows(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Return float32 rows of one stage, to be changed in place; zeros at first.

        Raises ``CheckpointError`` where the file holds marks without these rows, or rows of another shape.
        """
        begun = name in self._marks and bool((self._marks[name] != PENDING).any())
        if begun and name not in self._tensors:
            raise self._spoilt(f"marks of {name} without its logits")
        rows = self._tensors.setdefault(name, torch.zeros(shape))
        if tuple(rows.shape) != shape:
            raise self._spoilt(f"logits {tuple(rows.shape)} of {name} where {shape} are wanted")
        return rows

    def section(self, name: str, kind: type[SectionModel], make: Callable[[], SectionModel]) -> SectionModel:
        """Return a section as it was kept; made and kept where it is not yet."""
        if name not in self._sections:
            self._sections[name] = make().model_dump(mode="json")
            self.save()
        try:
            return kind.model_validate(self._sections[name])
        except ValidationError as error:
            raise self._spoilt(f"section {name}") from error

    def save(self) -> None:
        """Write the files; ``CheckpointError`` where that cannot be."""
        if self._folder is None:
            return
        document = {
            "key": self._key,
            "marks": {name: bytes(marks.numpy()).decode("ascii") for name, marks in self._marks.items()},
            "counts": self._counts,
            "sections": self._sections,
            "tensors": self._save_tensors(self._folder) if self._tensors else None,
        }
        self._write(self._folder / self.name, json.dumps(json_form(document)).encode())

    def finish(self) -> None:
        """Remove the files: the result is written."""
        if self._folder is not None:
            # The marks first: tensors without marks are nobody's, and `remove_orphaned_tensors` takes them.
            for name in (self.name, *(self._tensors_name(turn) for turn in (0, 1))):
                (self._folder / name).unlink(missing_ok=True)

    def _save_tensors(self, folder: Path) -> dict[str, Any]:
        # Two files in turn: the one that the last marks belong to stays until the new marks are written.
        name, self._turn = self._tensors_name(self._turn), 1 - self._turn
        data = tensor_bytes(self._tensors, {"key": self._key})
        self._write(folder / name, data)
        shapes = {name: list(tensor.shape) for name, tensor in self._tensors.items()}
        return {"file": name, "sha256": sha256(data).hexdigest(), "shapes": shapes}

    @staticmethod
    def _write(file: Path, data: bytes) -> None:
        with write_errors_explained(file):
            write_atomically(file, data)

    def _tensors_name(self, turn: int) -> str:
        return f"{PROGRESS_STEM}{self._key[:_DIGITS]}-{turn}{_TENSORS}"

    def _read(self, folder: Path) -> bool:
        if not exists(folder / self.name):
            return False
        document = read_json(folder / self.name)
        if document.get("key") != self._key:
            self.note = "is of other work"
            return False
        try:
            marks = {name: _marks(text) for name, text in document["marks"].items()}
            counts = {
                name: {what: int(count) for what, count in of.items()}
                for name, of in document["counts"].items()
            }
            sections, listed = dict(document["sections"]), document["tensors"]
            tensors = {} if listed is None else self._read_tensors(folder, listed)
        except (KeyError, AttributeError, TypeError, ValueError) as error:
            raise self._spoilt(repr(error)) from error
        if tensors is None:
            self.note = f"needs {listed['file']}, which is missing or another one"
            return False
        self._marks, self._counts, self._sections, self._tensors = marks, counts, sections, tensors
        return True

    def _read_tensors(self, folder: Path, listed: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """Return the tensors that the marks belong to; None where they are not there any more."""
        names = [self._tensors_name(turn) for turn in (0, 1)]
        self._turn = 1 - names.index(listed["file"])
        path = folder / listed["file"]
        if not exists(path) or sha256(path.read_bytes()).hexdigest() != listed["sha256"]:
            return None
        tensors = read_tensors(path)
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        return tensors if shapes == listed["shapes"] else None

    def _spoilt(self, found: str) -> CheckpointError:
        return CheckpointError(
            f"{(self._folder or Path()) / self.name}: not as kdcam writes it ({found}); remove the file to start over"
        )


def _marks(text: str) -> Tensor:
    marks = torch.frombuffer(bytearray(text.encode("ascii")), dtype=torch.uint8)
    if not bool(((marks == PENDING) | (marks == FELL) | (marks == STANDS)).all()):
        raise ValueError("marks other than '.', '0' and '1'")
    return marks


def remove_orphaned_tensors(folder: Path) -> None:
    """Remove tensors whose marks are gone, as a kill leaves them; nobody else may be writing in the folder."""
    for tensors in folder.glob(f"{PROGRESS_STEM}*-[01]{_TENSORS}"):
        marks = tensors.with_name(tensors.name.removesuffix(_TENSORS)[:-2] + ".json")
        if not exists(marks):
            with suppress(OSError):
                tensors.unlink(missing_ok=True)


def combined_digest(parts: Mapping[str, Any]) -> str:
    """Return the SHA-256 of named values that JSON takes, whatever their order."""
    return sha256(json.dumps(json_form(parts), sort_keys=True).encode()).hexdigest()


@contextmanager
def write_errors_explained(place: Path) -> Iterator[None]:
    """Raise ``CheckpointError`` with the ways out that an evaluation has, where its body raises another one.

    Args:
        place: the file, or the run's folder.
    """
    try:
        yield
    except FolderInUseError as error:
        raise FolderInUseError(
            f"{place}: another process is writing to this run, as its training does, or another evaluation; "
            "wait until it ends"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(
            f"{place}: cannot be written ({reason_text(error.__cause__ or error)}); free some space, or copy the run "
            "to a folder that you may write to"
        ) from error


def stop_with_results_kept(progress: Progress) -> None:
    """Raise ``Interrupted`` where the user asked to stop; to be called once what is done is kept."""
    if progress.should_stop():
        raise Interrupted("the evaluation was stopped; what is done is kept, the same command goes on")


__all__ = [
    "FELL",
    "PENDING",
    "PROGRESS_STEM",
    "STANDS",
    "PartialResults",
    "combined_digest",
    "remove_orphaned_tensors",
    "stop_with_results_kept",
    "write_errors_explained",
]
