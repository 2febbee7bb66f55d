"""The batch, the one interface through which images reach all that reads them; the images' order and seeded views."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kdcam.runtime.seeding import seeded_generator

EVALUATION_BATCH = 256
# Behind the seed, so that no two draws share a stream.
ORDER_STREAM = 0
AUGMENT_STREAM = 1
CROP_FLIP_STREAM = 2
VIEW_STREAM = 3
EPISODE_STREAM = 4


class Batch(NamedTuple):
    """Images with what is known of them."""

    images: Tensor  # (N, C, H, W) float32 in [0, 1]
    targets: Tensor  # (N,) int64, or (N, K) float rows for multi-label
    indices: Tensor  # (N,) int64, position in the part (train, validation or test)
    views: Tensor | None = None  # (N,) int64 on the CPU, the seeded view of each image; None: no views
    host_indices: Tensor | None = None  # (N,) int64, indices once more, on the CPU; only beside views


# Why a batch depends on (seed, epoch, number) alone: docs/decisions/001.
class Batches(Protocol):
    """A part of a data set, cut into batches on one device.

    What a batch holds is a function of (seed, epoch, batch number) alone: order and augmentation are drawn from
    generators seeded with these, so that a run resumed in the middle of an epoch sees what it would have seen.
    """

    @property
    def num_images(self) -> int:
        """Images that one epoch yields."""

    def __len__(self) -> int:
        """Batches in one epoch."""

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``start_batch`` on, always the same ones for the same arguments."""


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


def epoch_order(count: int, *, seed: int, epoch: int) -> Tensor:
    """Return the shuffled order (N,) of an epoch, on the CPU."""
    return torch.randperm(count, generator=seeded_generator(seed, epoch, ORDER_STREAM))


def batch_bounds(count: int, batch_size: int, *, drop_single: bool) -> list[tuple[int, int]]:
    """Return where each batch begins and ends; with ``drop_single`` a last batch of one image is left out.

    BatchNorm cannot be trained on a single image. ``batch_size`` 1 is taken at its word.
    """
    bounds = [(start, min(start + batch_size, count)) for start in range(0, count, batch_size)]
    if drop_single and batch_size > 1 and bounds and bounds[-1][1] - bounds[-1][0] == 1:
        bounds.pop()
    return bounds


class ImageOrder:
    """Which images the batches of an epoch hold: all, shuffled in training. Of episodes: `EpisodeOrder`."""

    def __init__(self, count: int, batch_size: int, *, training: bool, seed: int) -> None:
        self.bounds = batch_bounds(count, batch_size, drop_single=training)
        self._count, self._training, self._seed = count, training, seed

    def of_epoch(self, epoch: int) -> Tensor:
        """Return the positions (N,) of the images in their order."""
        if self._training:
            return epoch_order(self._count, seed=self._seed, epoch=epoch)
        return torch.arange(self._count)

    def variant(self, epoch: int, number: int) -> int:  # noqa: ARG002  # as that of `EpisodeOrder`
        """Return the number that decides, with its position, how an image of batch ``number`` is augmented."""
        return epoch


class Views(NamedTuple):
    """How many views an image has, and the seed that decides them; for what is worked out once and read in every epoch.

    View v of image i is a function of this seed, v, i, the augmentations, the side of the images and, where they are
    held in memory, N, the number of training images (crop and flip of a view are drawn for all of them at once);
    whatever the batch, the epoch and the training seed.
    """

    per_image: int
    seed: int


def draw_views(views: Views, images: int, *, seed: int, epoch: int, number: int) -> Tensor:
    """Return which view each of ``images`` images of a batch shows, (N,) int64 on the CPU.

    ``seed`` is that of training: the views that it sees are a function of (seed, epoch, batch number).
    """
    generator = seeded_generator(seed, epoch, VIEW_STREAM, number)
    return torch.randint(views.per_image, (images,), generator=generator)


__all__ = [
    "AUGMENT_STREAM",
    "CROP_FLIP_STREAM",
    "EPISODE_STREAM",
    "EVALUATION_BATCH",
    "ORDER_STREAM",
    "VIEW_STREAM",
    "Batch",
    "Batches",
    "ChangedBatches",
    "ImageOrder",
    "Views",
    "batch_bounds",
    "draw_views",
    "epoch_order",
]
