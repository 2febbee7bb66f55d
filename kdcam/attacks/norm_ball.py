"""The set of perturbations that an attack may use: steps in it, the way back into it, random points of it."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdcam.attacks.budget import Norm
from kdcam.runtime.seeding import seeded_generator

_TINY = 1e-12  # lengths of changes are kept above it


class NormBall(NamedTuple):
    """All images at most ``eps`` from a clean one, in [0, 1] pixel units: by pixel (linf) or by image (l2)."""

    norm: Norm
    eps: float

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the steepest direction (N, C, H, W) of unit norm; zero where the gradient is."""
        if self.norm == "linf":
            return gradient.sign()
        # By the largest entry first: squares of what is below 1e-23 or above 1e19 are no float32 numbers.
        largest = torch.linalg.vector_norm(gradient, ord=math.inf, dim=(1, 2, 3), keepdim=True)
        scaled: Tensor = gradient / largest.masked_fill(largest == 0, 1.0)
        return scaled.div_(_lengths(scaled).clamp(min=1))  # 1 or more already, but for zero

    def project(self, images: Tensor, clean: Tensor) -> Tensor:
        """Return the nearest images of the ball around ``clean`` (with respect to its own norm)."""
        change = images - clean  # worked on in place: new memory costs more than the arithmetic
        if self.norm == "linf":
            return change.clamp_(-self.eps, self.eps).add_(clean)
        return change.mul_((self.eps / _lengths(change).clamp(min=_TINY)).clamp(max=1)).add_(clean)

    def random_changes(self, clean: Tensor, *, seeds: Sequence[tuple[int, ...]]) -> Tensor:
        """Return one change (N, C, H, W) an image, uniform in the ball; each follows from its own seed alone.

        Drawn on the CPU, so that the device does not matter.
        """
        shape = tuple(clean.shape[1:])
        draw = _linf_point if self.norm == "linf" else _l2_point
        changes = np.empty((len(seeds), *shape), dtype=np.float32)
        for change, seed in zip(changes, seeds, strict=True):
            change[...] = draw(np.random.default_rng(seed), shape)
        return torch.from_numpy(changes).to(clean) * self.eps


def random_ball_points(clean: Tensor, ball: NormBall, *, numbers: tuple[int, ...]) -> Tensor:
    """Return images (N, C, H, W) in [0, 1], each uniform in the ball around its clean one before it is clamped.

    They follow from ``numbers`` alone and are drawn on the images' device, a batch at a time: a generator an image,
    as attacks have, would make the host wait for a GPU.
    """
    generator = torch.Generator(clean.device).manual_seed(seeded_generator(*numbers).initial_seed())
    if ball.norm == "linf":
        change = torch.empty_like(clean).uniform_(-ball.eps, ball.eps, generator=generator)
    else:
        change = torch.empty_like(clean).normal_(generator=generator)
        radii = torch.empty_like(clean[:, :1, :1, :1]).uniform_(generator=generator)
        change *= ball.eps * radii ** (1 / clean[0].numel()) / _lengths(change).clamp(min=_TINY)
    return (clean + change).clamp_(0, 1)


def _linf_point(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-1.0, 1.0, shape)


def _l2_point(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    point = rng.standard_normal(shape)
    radius = rng.random() ** (1 / point.size)
    return np.asarray(point * (radius / np.linalg.norm(point)))


def _lengths(images: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(images, dim=(1, 2, 3), keepdim=True)
    return lengths


__all__ = ["NormBall", "random_ball_points"]
