"""Noise that each image draws from its own generator, on the CPU, so that the device does not matter."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def gaussian_noise(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images plus normal noise of standard deviation ``strength``, drawn for each value."""
    normal = _drawn(images, generators, lambda rng, shape: rng.standard_normal(shape, dtype=np.float32))
    return images + strength * normal


def shot_noise(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return what a sensor counts that sees ``strength`` photons at full brightness: Poisson, mean the image."""
    expected = images.cpu().double().numpy() * strength  # in this order: Apple's GPUs have no float64
    counts = np.stack(
        [rng.poisson(rates) for rng, rates in zip(generators, expected, strict=True)]
    )  # one image after another: each generator is used by its own image alone
    return torch.from_numpy(counts).to(images) / strength


def impulse_noise(images: Tensor, strength: float, generators: Sequence[np.random.Generator]) -> Tensor:
    """Return images with a share ``strength`` of their values, drawn one by one, set to 0 or to 1."""
    uniform = _drawn(images, generators, lambda rng, shape: rng.random(shape, dtype=np.float32))
    peppered = torch.where(uniform < strength / 2, 0.0, images)
    return torch.where(uniform > 1 - strength / 2, 1.0, peppered)


def _drawn(
    images: Tensor,
    generators: Sequence[np.random.Generator],
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
) -> Tensor:
    shape = tuple(images.shape[1:])
    return torch.from_numpy(np.stack([draw(rng, shape) for rng in generators])).to(images)


__all__ = ["gaussian_noise", "impulse_noise", "shot_noise"]
