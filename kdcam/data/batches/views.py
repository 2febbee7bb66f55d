"""Seeded views: a few augmented forms of each training image, for what is worked out once and read in every epoch.

View v of image i is a function of the views' seed, v, i, the augmentations, the side of the images and, where they are
held in memory, N, the number of training images (a view's moves are drawn for all of them at once); whatever the batch,
the epoch and the training seed. Which view training sees at a step is a function of (training seed, epoch, batch
number).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.runtime.seeding import seeded_generator

_DRAW = 3  # 0 to 2 are the order of an epoch, the augmentation of a batch and the moves of a view


class Views(NamedTuple):
    """How many views an image has, and the seed that decides them."""

    per_image: int
    seed: int


def draw_views(views: Views, images: int, *, seed: int, epoch: int, number: int) -> Tensor:
    """Return which view each of ``images`` images of a batch shows, (N,) int64 on the CPU."""
    generator = seeded_generator(seed, epoch, _DRAW, number)
    return torch.randint(views.per_image, (images,), generator=generator)


__all__ = ["Views", "draw_views"]
