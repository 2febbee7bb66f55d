"""A cache's folder: cache.json says what counts in it, and an .npy file holds each array (V, N, ...) in fp16."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.json_files import read_json, write_json
from kdcam.teacher_cache.kept import Shape, file_names
from kdcam.teacher_cache.key import first_difference

INDEX = "cache.json"

Shapes = dict[str, tuple[Shape, ...]]  # name of an entry -> the shape of each of its arrays for one image


class Contents(NamedTuple):
    """What a cache's folder holds."""

    whole: Shapes
    filling: Shapes  # what a process is writing, or was when it ended
    views: int  # of these, views that are whole


class ArrayFile(NamedTuple):
    """Where an array lies, and its whole shape."""

    path: Path
    shape: Shape  # (V, N, ...)

    @property
    def header(self) -> bytes:
        """The bytes before its numbers, as numpy writes them."""
        file = io.BytesIO()
        facts = {"descr": "<f2", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(file, facts)
        return file.getvalue()

    def size(self, views: int | None = None) -> int:
        """The bytes of the file when it holds so many views; None: all."""
        held = self.shape[0] if views is None else views
        return len(self.header) + 2 * held * math.prod(self.shape[1:])


def array_files(folder: Path, key: Mapping[str, Any], shapes: Shapes) -> Iterator[ArrayFile]:
    """Yield the files of entries, in order."""
    before = (int(key["views"]), int(key["data"]["images"]))
    for name, ones in shapes.items():
        for file, shape in zip(file_names(name, len(ones)), ones, strict=True):
            yield ArrayFile(folder / file, (*before, *shape))


def read_contents(folder: Path, key: Mapping[str, Any]) -> Contents:
    """Return what a folder holds of a key; entries with a file that is missing or cut off count as not there.

    Raises ``CheckpointError`` where it holds a cache of another key, naming the first difference, or other files.
    """
    index = folder / INDEX
    if not index.exists():
        _check_nothing_foreign(folder)
        return Contents({}, {}, 0)
    record = read_json(index)
    difference = first_difference(record.get("key", {}), key)
    if difference is not None:
        raise CheckpointError(
            f"teacher.cache_folder: {folder} holds the cache of something else: {difference}; name another folder, or "
            "leave the key out for a folder of its own"
        )
    whole = {
        name: shapes
        for name, shapes in _shapes(record["whole"]).items()
        if all(_size(file.path) == file.size() for file in array_files(folder, key, {name: shapes}))
    }
    return Contents(whole, _shapes(record["filling"]), int(record["views"]))


def write_contents(folder: Path, key: Mapping[str, Any], contents: Contents) -> None:
    """Write cache.json, whole or not at all."""
    write_json(folder / INDEX, {"key": key, **contents._asdict()})


def open_arrays(folder: Path, name: str, shapes: Sequence[Shape]) -> tuple[Tensor, ...]:
    """Return an entry's arrays as fp16 tensors (V, N, ...) that read the files where they are asked."""
    # "c", not "r": torch warns of memory that may not be written to, which nothing here does.
    files = file_names(name, len(shapes))
    arrays = (np.load(folder / file, mmap_mode="c", allow_pickle=False) for file in files)
    return tuple(torch.from_numpy(array) for array in arrays)


def _shapes(record: Mapping[str, Any]) -> Shapes:
    return {name: tuple(tuple(map(int, one)) for one in shapes) for name, shapes in record.items()}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _check_nothing_foreign(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"teacher.cache_folder: {folder} is a file; name a folder")
    foreign = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if foreign:
        raise CheckpointError(
            f"teacher.cache_folder: {folder} holds {foreign[0]} but no {INDEX}, so it is no teacher's cache; name an "
            "empty folder, or one that is not there"
        )


__all__ = [
    "INDEX",
    "ArrayFile",
    "Contents",
    "Shapes",
    "array_files",
    "open_arrays",
    "read_contents",
    "write_contents",
]
