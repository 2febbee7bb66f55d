"""Digests of what a teacher's outputs depend on: its weights, the training images, the training targets."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from kdcam.data.picture_files import in_threads
from kdcam.data.resident import ResidentImages
from kdcam.data.streaming import FilePictures, PictureSource, StreamImages
from kdcam.errors import DataError
from kdcam.progress import Progress, Silent

_SAMPLED = 64  # pictures of a source that tells no files; reading them all would take as long as an epoch


class ImagesDigest(NamedTuple):
    """The SHA-256 of training images, and its name in a cache's key."""

    of: Literal["digest", "files"]  # of the images as they are held or decoded; of the bytes of their files
    sha256: str


def weights_digest(network: nn.Module, *, without: Sequence[str | None] = ()) -> str:
    """Return the SHA-256 of a network's state: names, types, shapes and bytes.

    ``without``: modules, by name, whose state is left out; None stands for none.
    """
    left_out = tuple(f"{name}." for name in without if name is not None)
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if not name.startswith(left_out):
            _add_text(digest, name)
            _add_tensor(digest, tensor)
    return digest.hexdigest()


def images_digest(images: ResidentImages | StreamImages, *, progress: Progress | None = None) -> ImagesDigest:
    """Return the SHA-256 of the images in their order.

    Of images held in memory it is that of their bytes. Of files it is that of each one's path (from the folder on that
    holds them all) and bytes: a copied or touched set stays the same one. Of another source, such as torchvision's
    sets, it is that of 64 pictures spread over it and of their number.

    Raises ``DataError`` for a file that cannot be read.
    """
    digest = hashlib.sha256()
    if isinstance(images, ResidentImages):
        _add_tensor(digest, images.pixels.permute(0, 2, 3, 1))
        return ImagesDigest("digest", digest.hexdigest())
    if isinstance(images.source, FilePictures):
        _add_text(digest, str(images.channels))
        paths = [images.source.paths[index] for index in images.order.tolist()]
        _add_files(digest, paths, progress or Silent())
        return ImagesDigest("files", digest.hexdigest())
    _add_tensor(digest, images.order)
    _add_text(digest, str(images.channels))
    _add_samples(digest, images.source)
    return ImagesDigest("digest", digest.hexdigest())


def targets_digest(targets: Tensor) -> str:
    """Return the SHA-256 of labels (N,) or rows (N, K)."""
    digest = hashlib.sha256()
    _add_tensor(digest, targets)
    return digest.hexdigest()


def _add_files(digest: "hashlib._Hash", paths: Sequence[Path], progress: Progress) -> None:
    folder = os.path.commonpath([path.absolute().parent for path in paths])
    contents = in_threads(
        lambda index: _file_digest(paths[index]),
        len(paths),
        task="digests of the training pictures",
        progress=progress,
    )
    for path, content in zip(paths, contents, strict=True):
        # Bytes, since a file's name need not be UTF-8.
        _add_bytes(digest, os.fsencode(path.absolute().relative_to(folder).as_posix()))
        _add_bytes(digest, content)


def _file_digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read any more ({error.strerror or error}); restore the file, or remove "
            "it from the data set"
        ) from error


def _add_samples(digest: "hashlib._Hash", source: PictureSource) -> None:
    count = len(source)
    _add_text(digest, f"{type(source).__name__} {count}")
    for index in torch.linspace(0, count - 1, min(count, _SAMPLED)).long().tolist():
        picture = source.picture(index, None).convert("RGB")
        _add_text(digest, f"{picture.size}")
        digest.update(picture.tobytes())


def _add_tensor(digest: "hashlib._Hash", tensor: Tensor) -> None:
    _add_text(digest, f"{tensor.dtype} {tuple(tensor.shape)}")
    held = tensor.detach().cpu().contiguous()
    if held.numel():
        digest.update(held.reshape(-1).view(torch.uint8).numpy().data)


def _add_text(digest: "hashlib._Hash", text: str) -> None:
    _add_bytes(digest, text.encode())


def _add_bytes(digest: "hashlib._Hash", data: bytes) -> None:
    digest.update(b"%d:%b" % (len(data), data))


__all__ = ["ImagesDigest", "images_digest", "targets_digest", "weights_digest"]
