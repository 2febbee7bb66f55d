"""Digests of images, held in memory or in files, by which results and caches know them again."""

import hashlib
import os
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from kdcam.data.batches.image_digests import picture_file_digest
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import FilePictures, PictureSource, StreamImages
from kdcam.data.sources.picture_files import map_in_threads
from kdcam.files.digests import add_bytes, add_tensor, add_text
from kdcam.runtime.progress import Progress, Silent

_SAMPLED = 64  # pictures of a source that tells no files; reading them all would take as long as an epoch


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
            lambda index: picture_file_digest(paths[index]),
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


__all__ = ["ImagesDigest", "images_digest"]
