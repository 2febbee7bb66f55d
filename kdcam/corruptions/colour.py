"""Light and colour: brightness, contrast, saturation, fog."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

_RED, _GREEN, _BLUE = 0.299, 0.587, 0.114  # of gray, as ITU-R BT.601 weighs them
_GRAIN = 2**20  # to the unit of brightness, when a mean is taken
_FOG_COLOUR = 0.9  # kdcam's choice: light gray, so that a white picture changes too
_FOG_CELLS = (2, 4, 8, 16)  # kdcam's choice: along a side; each grid counts half as much as the one before
_THINNEST = 0.5  # kdcam's choice: the fog's opacity where it is thinnest, as a share of where it is thickest


def brightness(images: Tensor, strength: float) -> Tensor:
    """Return images with ``strength`` added to every value."""
    return images + strength


def contrast(images: Tensor, strength: float) -> Tensor:
    """Return images drawn to their own mean; 1: as they were, 0: one gray."""
    # Whole numbers: the order of additions depends on the size of the batch and does not matter to them.
    grains = (images * _GRAIN).round().long().sum((1, 2, 3), keepdim=True)
    mean = grains.to(images) / (_GRAIN * images[0].numel())
    return mean + strength * (images - mean)


def gray_of(images: Tensor) -> Tensor:
    """Return the gray (N, 1, H, W) of colour images (N, 3, H, W), as Pillow weighs it."""
    red, green, blue = images[:, 0:1], images[:, 1:2], images[:, 2:3]
    gray: Tensor = _RED * red + _GREEN * green + _BLUE * blue
    return gray


def saturation(images: Tensor, strength: float) -> Tensor:
    """Return images (N, 3, H, W) drawn to gray; 1: as they were, 0: no colour is left."""
    gray = gray_of(images)
    return gray + strength * (images - gray)


def fog(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images behind clouds: opacity ``strength`` where they are thickest, half of it where thinnest."""
    clouds = _clouds(images, generators)
    low, high = clouds.amin((1, 2, 3), keepdim=True), clouds.amax((1, 2, 3), keepdim=True)
    thickness = (clouds - low) / (high - low).clamp(min=1e-6)  # a picture of one pixel has no range
    opacity = strength * (_THINNEST + (1 - _THINNEST) * thickness)
    return images + opacity * (_FOG_COLOUR - images)


def _clouds(images: Tensor, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return smooth random fields (N, 1, H, W): uniform grids from coarse to fine, laid over each other."""
    size = images.shape[-2:]
    total = torch.zeros(len(images), 1, *size, dtype=images.dtype, device=images.device)
    for place, cells in enumerate(_FOG_CELLS):
        drawn = np.stack([rng.random((1, cells, cells), dtype=np.float32) for rng in generators])
        grid = torch.from_numpy(drawn).to(images)
        total += interpolate(grid, size, mode="bilinear", align_corners=True) / 2**place
    return total


__all__ = ["brightness", "contrast", "fog", "gray_of", "saturation"]
