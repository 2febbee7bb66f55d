"""The arrays (V, N, ...) in fp16 that a cache is made of: their shapes, names, sizes and files."""

import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.files.npy_files import open_npy
from kdcam.files.paths import shown

Shape = tuple[int, ...]

SEVERAL = frozenset({"stages", "published_stages"})
"""The entries that have an array a map; each of the others has one."""

_BYTES = 2  # of a number in fp16


class EntryShapes(NamedTuple):
    """An entry of a cache with the shape of each of its arrays for one image; the stages have an array each."""

    name: str  # which its files begin with
    shapes: tuple[Shape, ...]


class ArrayFile(NamedTuple):
    """Where an array lies, and its whole shape."""

    path: Path
    shape: Shape  # (V, N, ...)

    @property
    def header(self) -> bytes:
        """The bytes before its numbers, as numpy writes them."""
        return _header(self.shape)

    def size(self, views: int | None = None) -> int:
        """The bytes of the file when it holds so many views; None: all."""
        return array_bytes(self.shape, views)


def array_bytes(shape: Shape, views: int | None = None) -> int:
    """Return the bytes of the file of an array (V, N, ...) when it holds so many views; None: all."""
    held = shape[0] if views is None else views
    return len(_header(shape)) + _BYTES * held * math.prod(shape[1:])


def array_files(
    folder: Path, entries: Iterable[EntryShapes], *, views: int, images: int
) -> Iterator[ArrayFile]:
    """Yield the files of entries, in order."""
    for entry in entries:
        for name, shape in zip(_names(entry), entry.shapes, strict=True):
            yield ArrayFile(folder / name, (views, images, *shape))


def open_arrays(folder: Path, entry: EntryShapes, *, views: int, images: int) -> tuple[Tensor, ...]:
    """Return an entry's arrays as fp16 tensors (V, N, ...) that read the files where they are asked.

    Raises ``CheckpointError`` for a file that cannot be read or holds something else.
    """
    return tuple(map(_opened, array_files(folder, [entry], views=views, images=images)))


def _opened(file: ArrayFile) -> Tensor:
    # "c", not "r": torch warns of memory that may not be written to, which nothing here does.
    array = open_npy(
        file.path,
        error=CheckpointError,
        place=f"teacher.cache_folder: {shown(file.path)}",
        way_out="remove it, and it is made again",
        mode="c",
    )
    if (array.dtype, array.shape) != (np.dtype("<f2"), file.shape):
        raise CheckpointError(
            f"teacher.cache_folder: {file.path} holds {array.dtype} {array.shape}, expected float16 {file.shape}; "
            "remove it, and it is made again"
        )
    return torch.from_numpy(array)


def _names(entry: EntryShapes) -> list[str]:
    if entry.name not in SEVERAL:
        return [f"{entry.name}.npy"]
    return [f"{entry.name}-{number}.npy" for number in range(len(entry.shapes))]


def _header(shape: Shape) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return file.getvalue()


__all__ = ["SEVERAL", "ArrayFile", "EntryShapes", "Shape", "array_bytes", "array_files", "open_arrays"]
