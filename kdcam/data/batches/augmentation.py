"""Augmentation of whole batches: crop, flip and cutout of bytes; Mixup and CutMix of floats, by timm.

The functions take images (N, H, W, C) uint8, channels last in memory as `ResidentImages` holds them, and a CPU
generator: the same seed gives the same images on every device. None of them normalises.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcam.data.batches.batch import Batch

_CROP_FRACTION = 8  # the crop shifts by up to size / 8 pixels: 4 of 32, as is usual for CIFAR


class CropFlips(NamedTuple):
    """How each of N images is moved and mirrored; None: no image is."""

    offsets: Tensor | None  # (2, N, 1) whole pixels, down and to the right of what is read
    mirrored: Tensor | None  # (N, 1) bool


def draw_crop_flips(n: int, *, shift: int, flip: bool, generator: torch.Generator) -> CropFlips:
    """Return moves of up to ``shift`` pixels both ways (0: none) and mirrorings of ``n`` images, on the CPU."""
    mirrored = torch.rand(n, 1, generator=generator) < 0.5 if flip else None
    offsets = torch.randint(-shift, shift + 1, (2, n, 1), generator=generator) if shift else None
    return CropFlips(offsets, mirrored)


def apply_crop_flips(images: Tensor, moves: CropFlips) -> Tensor:
    """Return the images, each mirrored and moved as ``moves`` say; black comes in.

    Moving is the same as padding and cropping at another place. One gather does both.
    """
    n, height, width, channels = images.shape
    rows = torch.arange(height).expand(n, height)
    columns = torch.arange(width).expand(n, width)
    if moves.mirrored is not None:
        columns = torch.where(moves.mirrored, width - 1 - columns, columns)
    if moves.offsets is not None:
        rows, columns = rows + moves.offsets[0], columns + moves.offsets[1]
    rows, columns = (index.to(images.device, non_blocking=True) for index in (rows, columns))
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    first = torch.arange(n, device=images.device)[:, None] * height
    pixels = ((first + rows) * width)[:, :, None] + columns[:, None, :]
    return images.reshape(-1, channels)[pixels] * inside[..., None]


def crop_flips_for(names: Sequence[str], n: int, *, size: int, generator: torch.Generator) -> CropFlips:
    """Return the moves that crop and flip, where ``names`` holds them, make of ``n`` images of ``size`` rows."""
    shift = max(1, size // _CROP_FRACTION) if "crop" in names else 0
    return draw_crop_flips(n, shift=shift, flip="flip" in names, generator=generator)


def cutout(images: Tensor, *, generator: torch.Generator) -> Tensor:
    """Return the images with a square of half the side, its centre anywhere, painted in the image's mean colour.

    DeVries and Taylor, 2017, arXiv 1708.04552 (16 of 32 pixels on CIFAR-10). They paint the mean of the data
    set; the image's own mean is kdcam's choice, since normalisation happens later.
    """
    n, height, width, _ = images.shape
    centres = torch.rand(2, n, 1, generator=generator).to(images.device, non_blocking=True)
    rows, columns = (
        (torch.arange(size, device=images.device) - (centre * size).floor()) / (size / 2)
        for size, centre in zip((height, width), centres, strict=True)
    )
    inside = ((rows >= -0.5) & (rows < 0.5))[:, :, None] & ((columns >= -0.5) & (columns < 0.5))[:, None, :]
    mean = images.float().mean(dim=(1, 2), keepdim=True).round().to(images.dtype)
    return torch.where(inside[..., None], mean, images)


def augment_batch(images: Tensor, names: Sequence[str], *, generator: torch.Generator) -> Tensor:
    """Return the images after those of crop, flip and cutout that ``names`` holds, in this order."""
    if "crop" in names or "flip" in names:
        moves = crop_flips_for(names, len(images), size=images.shape[1], generator=generator)
        images = apply_crop_flips(images, moves)
    if "cutout" in names:
        images = cutout(images, generator=generator)
    return images


class Mixing:
    """Mixup and CutMix with one mixing ratio a batch; labels become rows (N, K).

    timm draws from numpy's global generator, which is why a resumable state holds it.
    """

    def __init__(self, *, mixup: float, cutmix: float, num_classes: int) -> None:
        from timm.data.mixup import Mixup  # here: a run without it would wait for timm

        self.num_classes = num_classes
        self.mix: Any = Mixup(
            mixup_alpha=mixup, cutmix_alpha=cutmix, label_smoothing=0.0, num_classes=num_classes
        )

    def __call__(self, batch: Batch) -> Batch:
        """Return the mixed batch; timm pairs images, so the last of an odd number stays as it is."""
        even = len(batch.targets) // 2 * 2
        images, rows = self.mix(batch.images[:even].clone(), batch.targets[:even])
        alone = F.one_hot(batch.targets[even:], self.num_classes).to(rows.dtype)
        return Batch(torch.cat([images, batch.images[even:]]), torch.cat([rows, alone]), batch.indices)


__all__ = [
    "CropFlips",
    "Mixing",
    "apply_crop_flips",
    "augment_batch",
    "crop_flips_for",
    "cutout",
    "draw_crop_flips",
]
