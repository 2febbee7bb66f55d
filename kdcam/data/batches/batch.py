"""The batch and the one interface through which images reach training, evaluation and attacks."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from torch import Tensor


class Batch(NamedTuple):
    """Images with what is known of them."""

    images: Tensor  # (N, C, H, W) float32 in [0, 1]
    targets: Tensor  # (N,) int64, or (N, K) float rows for multi-label
    indices: Tensor  # (N,) int64, position in the part (train, validation or test)
    views: Tensor | None = (
        None  # (N,) int64 on the CPU, which seeded view each image shows; None: there are none
    )
    host_indices: Tensor | None = None  # (N,) int64, indices once more, on the CPU; only beside views


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


__all__ = ["Batch", "Batches", "ChangedBatches"]
