"""Digests by which pictures, parts and caches are known again: the SHA-256 of files' bytes and of pixels."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.decoding import map_in_threads
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import FilePictures, PictureSource, StreamImages
from kdcam.errors import DataError
from kdcam.files.digests import add_bytes, add_tensor, add_text
from kdcam.files.paths import shown
from kdcam.runtime.progress import Progress, Silent
from kdcam.settings.messages import reason_text

KEY_BYTES = 32
_STAMP_NUMBERS = 4
_INODE_BITS = 2**63 - 1  # some file systems use 64 bits, and a tensor holds 63 and a sign
_SAMPLED = 64  # pictures of a source that tells no files; reading them all would take as long as an epoch

Stamp = tuple[int, int, int, int]
"""Size in bytes, time of the last change of the bytes and of the file's entry (both ns), number of the inode.

Two files that exchange their names keep size and time of change; the entry's time and the inode tell them apart.
"""


class FileKey(NamedTuple):
    """A picture's key and the stamp of its file when it was read."""

    key: bytes
    stamp: Stamp


def stamp_of(path: str | Path) -> Stamp | None:
    """Return a file's stamp; None where there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116  # twice as fast as a Path, and there are a million
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino & _INODE_BITS


def file_key(path: Path) -> FileKey:
    """Return the key and the stamp of a file; ``DataError`` where it cannot be read."""
    stamp = stamp_of(path)  # before the bytes: what changes while they are read gets another stamp
    key = _picture_file_digest(path)
    return FileKey(key, stamp or (0, 0, 0, 0))


def _picture_file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file's bytes; ``DataError`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(
            f"{shown(path)}: cannot be read any more ({reason_text(error)}); restore the file, or remove "
            "it from the data set"
        ) from error


def key_rows(keys: Iterable[bytes]) -> Tensor:
    """Return keys as rows (N, 32) uint8."""
    data = bytearray(b"".join(keys))
    if not data:
        return torch.empty(0, KEY_BYTES, dtype=torch.uint8)
    return torch.frombuffer(data, dtype=torch.uint8).reshape(-1, KEY_BYTES)


def keys_in(rows: Tensor) -> list[bytes]:
    """Return the keys of rows (N, 32) uint8."""
    data = rows.contiguous().numpy().tobytes()
    return [data[start : start + KEY_BYTES] for start in range(0, len(data), KEY_BYTES)]


def stamp_rows(stamps: Sequence[Stamp]) -> Tensor:
    """Return stamps as rows (N, 4) int64."""
    return torch.tensor(stamps, dtype=torch.int64).reshape(-1, _STAMP_NUMBERS)


def path_from(root: Path, path: Path) -> str:
    """Return a file's path from a folder on, with slashes."""
    text, folder = str(path), f"{root}{os.sep}"
    inside = text.removeprefix(folder) if text.startswith(folder) else os.path.relpath(text, root)
    return inside.replace(os.sep, "/")


class ImagesDigest(NamedTuple):
    """The SHA-256 of training images, and its name in a cache's key."""

    of: Literal["digest", "files"]  # of the images as they are held or decoded; of the bytes of their files
    sha256: str


def images_digest(images: ResidentImages | StreamImages, *, progress: Progress | None = None) -> ImagesDigest:
    """Return the SHA-256 of the images in their order.

    Of images held in memory it is that of their bytes. Of files it is that of each one's path (from the folder on that
    holds them all) and bytes: a copied or touched set stays the same one. Of another source, such as torchvision's
    sets, it is that of 64 pictures spread over it and of their number.

    Raises ``DataError`` for a file that cannot be read.
    """
    digest = hashlib.sha256()
    if isinstance(images, ResidentImages):
        add_tensor(digest, images.pixels.permute(0, 2, 3, 1))
        return ImagesDigest("digest", digest.hexdigest())
    if isinstance(images.source, FilePictures):
        add_text(digest, str(images.channels))
        _add_files(digest, images.source, images.order.tolist(), progress or Silent())
        return ImagesDigest("files", digest.hexdigest())
    add_tensor(digest, images.order)
    add_text(digest, str(images.channels))
    _add_samples(digest, images.source)
    return ImagesDigest("digest", digest.hexdigest())


def _add_files(
    digest: "hashlib._Hash", files: FilePictures, order: Sequence[int], progress: Progress
) -> None:
    paths = [files.paths[index] for index in order]
    folder = os.path.commonpath([path.absolute().parent for path in paths])
    if files.digests is not None:
        contents = [files.digests[index] for index in order]
    else:
        contents = map_in_threads(
            lambda index: _picture_file_digest(paths[index]),
            len(paths),
            task="digests of the training pictures",
            progress=progress,
        )
    for path, content in zip(paths, contents, strict=True):
        # Bytes, since a file's name need not be UTF-8.
        add_bytes(digest, os.fsencode(path.absolute().relative_to(folder).as_posix()))
        add_bytes(digest, content)


def _add_samples(digest: "hashlib._Hash", source: PictureSource) -> None:
    count = len(source)
    add_text(digest, f"{type(source).__name__} {count}")
    for index in torch.linspace(0, count - 1, min(count, _SAMPLED)).long().tolist():
        picture = source.picture(index, None).convert("RGB")
        add_text(digest, f"{picture.size}")
        digest.update(picture.tobytes())


__all__ = [
    "KEY_BYTES",
    "FileKey",
    "ImagesDigest",
    "Stamp",
    "file_key",
    "images_digest",
    "key_rows",
    "keys_in",
    "path_from",
    "stamp_of",
    "stamp_rows",
]
