"""Digests of what a teacher's outputs depend on: its weights, the training images, the training targets."""

import hashlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from kdcam.data.resident import ResidentImages
from kdcam.data.streaming import FilePictures, PictureSource, StreamImages

_SAMPLED = 64  # pictures of a source that tells no files; reading them all would take as long as an epoch


def weights_digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network's state: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        _add_text(digest, name)
        _add_tensor(digest, tensor)
    return digest.hexdigest()


def images_digest(images: ResidentImages | StreamImages) -> str:
    """Return the SHA-256 of the images in their order.

    Of images held in memory it is that of their bytes. Of files it is that of each one's path (from the folder on that
    holds them all), size and time of change. Of another source, such as torchvision's sets, it is that of 64 pictures
    spread over it and of their number.
    """
    digest = hashlib.sha256()
    if isinstance(images, ResidentImages):
        _add_tensor(digest, images.pixels.permute(0, 2, 3, 1))
        return digest.hexdigest()
    _add_tensor(digest, images.order)
    _add_text(digest, str(images.channels))
    _add_source(digest, images.source)
    return digest.hexdigest()


def targets_digest(targets: Tensor) -> str:
    """Return the SHA-256 of labels (N,) or rows (N, K)."""
    digest = hashlib.sha256()
    _add_tensor(digest, targets)
    return digest.hexdigest()


def _add_source(digest: "hashlib._Hash", source: PictureSource) -> None:
    if isinstance(source, FilePictures):
        folder = os.path.commonpath([path.absolute().parent for path in source.paths])
        for path in source.paths:
            facts = path.stat()
            place = Path(path.absolute()).relative_to(folder).as_posix()
            _add_text(digest, f"{place} {facts.st_size} {facts.st_mtime_ns}")
        return
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
    digest.update(f"{len(text)}:{text}".encode())


__all__ = ["images_digest", "targets_digest", "weights_digest"]
