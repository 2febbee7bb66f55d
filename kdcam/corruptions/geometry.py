"""Pictures moved and turned; what comes in over a border repeats the border."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def translate(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images moved by ``strength`` of the shorter side, each in a direction of its own."""
    angles = torch.tensor([2 * np.pi * rng.random() for rng in generators], dtype=torch.float64)
    distance = strength * min(images.shape[-2:])
    rows, columns = pixel_centres(images)
    return bilinear_samples(
        images,
        rows + (distance * angles.sin()).to(images)[:, None, None],
        columns + (distance * angles.cos()).to(images)[:, None, None],
    )


def rotate(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images turned about their middle by ``strength`` degrees, each one way or the other."""
    signs = torch.tensor([1.0 if rng.random() < 0.5 else -1.0 for rng in generators], dtype=torch.float64)
    turns = signs * np.deg2rad(strength)
    sine, cosine = (values.to(images)[:, None, None] for values in (turns.sin(), turns.cos()))
    rows, columns = pixel_centres(images)
    return bilinear_samples(images, cosine * rows + sine * columns, cosine * columns - sine * rows)


def bilinear_samples(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images (N, C, H, W) read, bilinearly, at places in pixels from the middle of the picture.

    ``rows`` and ``columns`` are (N, H, W) or broadcast to it; places outside give the nearest border pixel.
    """
    height, width = images.shape[-2:]
    places = torch.broadcast_tensors(columns * (2 / width), rows * (2 / height))
    grid = torch.stack(places, dim=-1).expand(len(images), -1, -1, -1)
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def pixel_centres(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows (1, H, 1) and columns (1, 1, W) of pixel centres, from the middle of the picture."""
    height, width = images.shape[-2:]
    rows = torch.arange(height).to(images) - (height - 1) / 2
    columns = torch.arange(width).to(images) - (width - 1) / 2
    return rows[None, :, None], columns[None, None, :]


__all__ = ["bilinear_samples", "pixel_centres", "rotate", "translate"]
