"""Files of safetensors: sealed with a SHA-256 where kdcam writes them, checked whole before a tensor is made of them.

A sealed file has ``kdcam.sha256`` in its metadata: the SHA-256 of its header without that entry (as JSON with sorted
keys, no spaces and ASCII only), a line end, and all its numbers. Other programs read it as any other file.
"""

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdcam.errors import KdcamError
from kdcam.files.paths import is_file, shown
from kdcam.settings.messages import reason_text

SEAL = "kdcam.sha256"
_METADATA = "__metadata__"
_MOST_HEADER = 32_000_000  # bytes; thousands of tensors and the record of a run take less than one million
# of a number, by the types that kdcam reads
_BYTES = {"BF16": 2, "BOOL": 1, "F16": 2, "F32": 4, "F64": 8, "I16": 2, "I32": 4, "I64": 8, "I8": 1, "U8": 1}


# What the seal is for: docs/decisions/025.
def sealed(data: bytes) -> bytes:
    """Return a whole safetensors file with its seal, its metadata in the order of their names.

    The safetensors library writes them in an order that changes from process to process.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8:end]), memoryview(data)[end:]
    metadata = header.pop(_METADATA, {})
    seal = _seal({_METADATA: metadata, **header}, numbers)
    whole = {_METADATA: dict(sorted({**metadata, SEAL: seal}.items())), **header}
    text = json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, numbers))


def check_tensors_file(path: Path, *, error: type[KdcamError], way_out: str) -> bool:
    """Return whether a safetensors file is sealed; it is read through and compared with its header and its seal.

    Files of other programs have none, nor have those that kdcam wrote before there were seals.

    Args:
        path: The file.
        error: What is raised.
        way_out: How the message ends.

    Raises:
        KdcamError: of the type ``error``: the file cannot be read, is none of safetensors, was cut off or changed, or
            holds numbers of a type that kdcam does not read.
    """
    try:
        if not is_file(path):
            raise FileNotFoundError(2, "there is no such file")
        with path.open("rb") as file:
            if path.stat().st_size < 8:
                raise ValueError("it has less than 8 bytes")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _check(data)
    except OSError as problem:
        raise error(f"{shown(path)}: cannot be read ({reason_text(problem)})") from problem
    except (ValueError, RecursionError) as problem:
        reason = "its header has too many brackets" if isinstance(problem, RecursionError) else problem
        raise error(f"{shown(path)}: not a whole safetensors file ({reason}); {way_out}") from problem


def _check(data: mmap.mmap) -> bool:
    """Return whether there is a seal; ``ValueError`` where something is damaged."""
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise ValueError(f"it begins a header of {length:,} bytes and has {len(data):,} in all")
    if length > _MOST_HEADER:
        raise ValueError(f"its header has {length:,} bytes, at most {_MOST_HEADER:,} are read")
    header = _header(data[8 : 8 + length])
    metadata = header.get(_METADATA, {})
    tensors = {name: entry for name, entry in header.items() if name != _METADATA}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata are no texts")
    _check_offsets(tensors, len(data) - 8 - length)
    found = metadata.pop(SEAL, None)
    if found is not None:
        with memoryview(data) as view, view[8 + length :] as numbers:
            if _seal(header, numbers) != found:
                raise ValueError("its checksum is of other content: something in it was changed")
    return found is not None


def _header(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"))
    except ValueError as problem:
        # Python's own words on huge numbers fill a paragraph.
        raise ValueError(f"its header is no JSON: {str(problem)[:80]}") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    return header


def _check_offsets(tensors: Mapping[str, Any], size: int) -> None:
    """Raise ``ValueError`` unless the tensors lie one behind the other and fill the file."""
    spans = sorted((*_offsets(name, entry), name) for name, entry in tensors.items())
    end = 0
    for begin, stop, name in spans:
        if begin != end:
            raise ValueError(f"{name[:80]!r} begins at {begin:,}, where {end:,} is wanted")
        end = stop
    if end != size:
        raise ValueError(f"its tensors take {end:,} bytes, and it has {size:,}")


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    wanted = {"dtype", "shape", "data_offsets"}
    if not isinstance(entry, dict) or entry.keys() != wanted:
        raise ValueError(f"{name[:80]!r} is not described by {', '.join(sorted(wanted))}")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in _BYTES:
        raise ValueError(f"{name[:80]!r} holds numbers of type {str(kind)[:20]}, which kdcam does not read")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"the shape or place of {name[:80]!r} is damaged")
    begin, end = offsets
    if end - begin != math.prod(shape) * _BYTES[kind]:
        raise ValueError(f"{name[:80]!r} has {end - begin:,} bytes where its shape wants others")
    return begin, end


def _are_sizes(found: Any) -> bool:
    return (
        isinstance(found, list)
        and len(found) <= 32
        and all(type(one) is int and 0 <= one < 2**63 for one in found)
    )


def _seal(header: Mapping[str, Any], numbers: memoryview) -> str:
    text = json.dumps(header, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode() + b"\n")
    digest.update(numbers)
    return digest.hexdigest()


__all__ = ["SEAL", "check_tensors_file", "sealed"]
