"""Arrays in .npy files: the header is taken apart by a pattern, so that nothing in it is run, unpacked or made."""

import math
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdcam.errors import KdcamError
from kdcam.files.paths import is_file, shown
from kdcam.settings.messages import reason_text

_MAGIC = b"\x93NUMPY"
_VERSIONS = (b"\1\0", b"\2\0", b"\3\0")
_LONGEST = 10_000  # bytes of a header; numpy reads no longer ones either
_MOST_SIZES = 32  # dimensions

_ENTRY = r"'(?:descr|fortran_order|shape)' ?: ?(?:'[^']*'|True|False|\([\d ,]*\)) ?"
_HEADER = re.compile(rf"\{{ ?{_ENTRY}(?:, ?{_ENTRY}){{2}},? ?\}} ?")
_DESCR = re.compile(r"'descr' ?: ?'([<>|=]?[biufc]\d{1,2})'")
_ORDER = re.compile(r"'fortran_order' ?: ?(True|False)")
_SHAPE = re.compile(r"'shape' ?: ?\(([\d ,]*)\)")


class _Header(NamedTuple):
    dtype: np.dtype[Any]
    in_columns: bool  # Fortran's order
    shape: tuple[int, ...]
    length: int  # bytes of the file before its numbers


def open_npy(
    path: Path,
    *,
    error: type[KdcamError],
    place: str | None = None,
    way_out: str = "fetch the file again",
    mode: Literal["r", "c"] = "r",
) -> NDArray[Any]:
    """Return the array of an .npy file, mapped: its numbers are read where they are asked for.

    Numbers and truth values are read; no text, no records and no Python objects, which are pickles.

    Args:
        path: The file.
        error: What is raised.
        place: How the message begins; the path unless given.
        way_out: How it ends.
        mode: "r": the array may not be written to. "c": what is written to it does not reach the file.

    Raises:
        KdcamError: of the type ``error``: there is no such file, it is of another kind (a zip archive, say) or
            damaged, it is longer or shorter than its header says, or its array is empty.
    """
    where = place or shown(path)
    try:
        if not is_file(path):
            raise ValueError("there is no such file")
        size = path.stat().st_size
        header = _read_header(path)
        wanted = header.dtype.itemsize * math.prod(header.shape)
        if wanted == 0:
            raise ValueError(f"its array of shape {header.shape} is empty")
        if size - header.length != wanted:
            raise ValueError(
                f"it holds {size - header.length:,} bytes of numbers where its header, {header.dtype} "
                f"{header.shape}, says {wanted:,}"
            )
        return np.memmap(
            path,
            header.dtype,
            mode=mode,
            offset=header.length,
            shape=header.shape,
            order="F" if header.in_columns else "C",
        )
    except (OSError, ValueError) as problem:
        raise error(
            f"{where}: cannot be read as an .npy array ({reason_text(problem)}); {way_out}"
        ) from problem


def _read_header(path: Path) -> _Header:
    with path.open("rb") as file:
        start = file.read(12)
        if len(start) < 12 or not start.startswith(_MAGIC) or start[6:8] not in _VERSIONS:
            raise ValueError(f"it begins with {start[:8]!r}, as no .npy file does")
        width = 2 if start[6] == 1 else 4
        length = int.from_bytes(start[8 : 8 + width], "little")
        if length > _LONGEST:
            raise ValueError(f"its header has {length:,} bytes, at most {_LONGEST:,} are read")
        file.seek(8 + width)
        text = file.read(length)
    if len(text) < length:
        raise ValueError("it ends within its header")
    return _parsed(text.decode("ascii"), 8 + width + length)


def _parsed(text: str, length: int) -> _Header:
    text = re.sub(r"[ \t\r\n]+", " ", text)
    found = [pattern.findall(text) for pattern in (_DESCR, _ORDER, _SHAPE)]
    if _HEADER.fullmatch(text) is None or any(len(one) != 1 for one in found):
        raise ValueError("its header is damaged, or its array is not one of plain numbers")
    (descr,), (order,), (sizes,) = found
    try:
        dtype: np.dtype[Any] = np.dtype(descr)
    except TypeError:
        raise ValueError(f"its numbers are of the type {descr!r}, which is unknown") from None
    return _Header(dtype, order == "True", _sizes(sizes), length)


def _sizes(text: str) -> tuple[int, ...]:
    """Return the sizes in a shape as numpy writes it: ``3, 4`` or ``3,``."""
    text = text.strip()
    words = [word.strip() for word in text.removesuffix(",").split(",")] if text else []
    one_of_no_tuple = len(words) == 1 and not text.endswith(",")
    if (
        one_of_no_tuple
        or len(words) > _MOST_SIZES
        or any(not word.isdecimal() or len(word) > 18 for word in words)
    ):
        raise ValueError(f"its shape ({text[:60]}) is damaged")
    return tuple(map(int, words))


__all__ = ["open_npy"]
