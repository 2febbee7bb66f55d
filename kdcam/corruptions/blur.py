"""Blurs, whose width grows with the side of the picture (from 19 pixels on).

Sums of shifted pictures rather than convolutions: an image's values then do not depend on how many others are
computed with it.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from kdcam.corruptions.geometry import bilinear_samples, pixel_centres

_REACH = 3  # standard deviations that the Gaussian kernel spans to either side
_LEAST_UNIT = 0.6  # kdcam's choice, pixels: below it a mild blur would leave pictures of 8 x 8 as they are


def gaussian_blur(images: Tensor, strength: float) -> Tensor:
    """Return images under a Gaussian of standard deviation ``strength`` / 32 of the shorter side."""
    sigma = strength * _unit(images)
    radius = max(1, math.ceil(_REACH * sigma))
    weights = [math.exp(-0.5 * (place / sigma) ** 2) for place in range(-radius, radius + 1)]
    total = sum(weights)
    kernel = [weight / total for weight in weights]
    upright = _slid(pad(images, (0, 0, radius, radius), mode="replicate"), kernel, dim=2)
    return _slid(pad(upright, (radius, radius, 0, 0), mode="replicate"), kernel, dim=3)


def motion_blur(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return the mean of images moved along a line of length ``strength`` / 32 of the shorter side.

    Each image has a direction of its own.
    """
    length = strength * _unit(images)
    steps = math.ceil(length) + 1  # at most a pixel apart
    angles = torch.tensor([math.pi * rng.random() for rng in generators], dtype=torch.float64)
    sine, cosine = (values.to(images)[:, None, None] for values in (angles.sin(), angles.cos()))
    rows, columns = pixel_centres(images)
    total = torch.zeros_like(images)
    for place in np.linspace(-length / 2, length / 2, steps).tolist():
        total += bilinear_samples(images, rows + place * sine, columns + place * cosine)
    return total / steps


def _unit(images: Tensor) -> float:
    return max(_LEAST_UNIT, min(images.shape[-2:]) / 32)


def _slid(padded: Tensor, kernel: Sequence[float], *, dim: int) -> Tensor:
    size = padded.shape[dim] - len(kernel) + 1
    total = padded.narrow(dim, 0, size) * kernel[0]
    for start, weight in enumerate(kernel[1:], start=1):
        total += padded.narrow(dim, start, size) * weight
    return total


__all__ = ["gaussian_blur", "motion_blur"]
