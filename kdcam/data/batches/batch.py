"""The batch, the one interface through which images reach all that reads them, and seeded views of images."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kdcam.runtime.seeding import seeded_generator

EVALUATION_BATCH = 256


class Batch(NamedTuple):
    """Images with what is known of them."""

    images: Tensor  # (N, C, H, W) float32 in [0, 1]
    targets: Tensor  # (N,) int64, or (N, K) float rows for multi-label
    indices: Tensor  # (N,) int64, position in the part (train, validation or test)
    views: Tensor | None = (
        None  # (N,) int64 on the CPU, which seeded view each image shows; None: there are none
    )
    host_indices: Tensor | None = None  # (N,) int64, indices once more, on the CPU; only beside views


# Why a batch depends on (seed, epoch, number) alone: docs/decisions/001.
class Batches(Protocol):
    """A part of a data set, cut into batches on one device.

    What a batch holds is a function of (seed, epoch, batch number) alone: order and augmentation are drawn
    from generators seeded with these, so that a run resumed in the middle of an epoch sees what it would have
    seen.
    """

    @property
    def num_images(self) -> int:
        """Images that one epoch yields."""

    def __len__(self) -> int:
        """Batches in one epoch."""

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``start_batch`` on, always the same ones for the same
        arguments."""


class ChangedBatches:
    """Batches of which each is changed on its way; as many images in as many batches."""

    def __init__(self, found: Batches, change: Callable[[Batch], Batch]) -> None:
        self._found, self._change = found, change

    @property
    def num_images(self) -> int:
        """Images that one epoch yields."""
        return self._found.num_images

    def __len__(self) -> int:
        """Return the batches in one epoch."""
        return len(self._found)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``start_batch`` on, each changed."""
        return map(self._change, self._found.epoch(epoch, start_batch))


_DRAW = 3  # 0 to 2 are the order of an epoch, the augmentation of a batch and the moves of a view


class Views(NamedTuple):
    """How many views an image has, and the seed that decides them."""

    per_image: int
    seed: int


def draw_views(views: Views, images: int, *, seed: int, epoch: int, number: int) -> Tensor:
    """Return which view each of ``images`` images of a batch shows, (N,) int64 on the CPU."""
    generator = seeded_generator(seed, epoch, _DRAW, number)
    return torch.randint(views.per_image, (images,), generator=generator)


__all__ = [
    "EVALUATION_BATCH",
    "Batch",
    "Batches",
    "ChangedBatches",
    "Views",
    "draw_views",
]
