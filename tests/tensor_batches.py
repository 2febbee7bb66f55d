"""Batches of tensors held in memory, for tests of what reads batches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kdcam.data.batches.batch import Batch


class TensorBatches:
    """Tensors cut into batches, in order; ``images`` may be anything that a classifier takes."""

    def __init__(self, images: Tensor, targets: Tensor, batch_size: int = 4) -> None:
        self.images, self.targets, self.batch_size = images, targets, batch_size

    @property
    def num_images(self) -> int:
        return len(self.images)

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        for start in range(start_batch * self.batch_size, len(self.images), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield Batch(self.images[part], self.targets[part], torch.arange(len(self.images))[part])
