"""Images of other classes, drawn at random for each image of a batch."""

import torch
from torch import Tensor, nn

from kdcam.errors import DataError

_MANY = 2**62  # a remainder of numbers up to it is even to one part in 2^62 / n


class OtherClasses(nn.Module):
    """Draws, for each image of a batch, training images of other classes than its own, evenly and with replacement.

    It keeps the positions of the training images ordered by class, 8 bytes an image, on the device and out of the
    state: they follow from the training labels. Raises ``DataError`` where one class has all images.
    """

    order: Tensor
    starts: Tensor
    counts: Tensor

    def __init__(self, train_targets: Tensor, num_classes: int) -> None:
        super().__init__()
        counts = torch.bincount(train_targets, minlength=num_classes)
        if int(counts.max()) == len(train_targets):
            raise DataError(
                f"data: all {len(train_targets)} training images are of class {int(counts.argmax())}, so that there is "
                "no image of another class to contrast them with; train on images of two classes or more, or take "
                "another loss"
            )
        self.register_buffer("order", train_targets.argsort(stable=True), persistent=False)
        self.register_buffer("starts", counts.cumsum(0) - counts, persistent=False)
        self.register_buffer("counts", counts, persistent=False)

    def forward(self, targets: Tensor, number: int) -> Tensor:
        """Return positions (N, ``number``) in the training part, of other classes than ``targets`` (N,)."""
        starts, counts = self.starts[targets][:, None], self.counts[targets][:, None]
        drawn = torch.randint(_MANY, (len(targets), number), device=targets.device)
        return self.order[past_a_block(drawn % (len(self.order) - counts), starts, counts)]


def past_a_block(ranks: Tensor, starts: Tensor, counts: Tensor) -> Tensor:
    """Return places of ranks (N, M) among those outside blocks of ``counts`` (N, 1) from ``starts`` (N, 1) on."""
    return ranks + counts * (ranks >= starts)


__all__ = ["OtherClasses", "past_a_block"]
