"""Class centres among the embeddings: moved to the images without gradient, or learned as parameters."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcam.runtime.distributed import sum_over_processes

USUAL_CENTER_RATE = 0.5
"""How far moved centres follow a batch, center loss's own alpha (Wen et al. 2016)."""


class Centers(NamedTuple):
    """The class centres that a step compares with."""

    positions: Tensor  # (K, E)
    seen: Tensor  # (K,) bool, the classes that have one


class MovedCenters(nn.Module):
    """Class centres that follow the embeddings without gradient, the same on every process."""

    positions: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, width: int, *, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("positions", torch.zeros(num_classes, width))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    @torch.no_grad()
    def forward(self, embedding: Tensor, targets: Tensor) -> Centers:
        """Return the centres before a batch's embeddings (N, E) move them; new classes' start at their mean."""
        with torch.autocast(embedding.device.type, enabled=False):
            member = F.one_hot(targets, len(self.positions)).to(self.positions.dtype)
            sums, counts = sum_over_processes(member.T @ embedding.to(self.positions.dtype), member.sum(0))
        rows = counts[:, None]
        before = torch.where(self.seen[:, None], self.positions, sums / rows.clamp(min=1))
        seen = self.seen | (counts > 0)
        # In place: compiled steps must find the same tensors.
        self.positions.copy_(before - self.rate * (rows * before - sums) / (1 + rows))
        self.seen.copy_(seen)
        return Centers(before, seen)


class LearnedCenters(nn.Module):
    """Class centres that are parameters, drawn at random about 0."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(num_classes, width) / width**0.5)

    def forward(self, embedding: Tensor, targets: Tensor) -> Centers:
        """Return the centres as they are."""
        del embedding, targets
        return Centers(self.positions, self.positions.new_ones(len(self.positions), dtype=torch.bool))


__all__ = ["USUAL_CENTER_RATE", "Centers", "LearnedCenters", "MovedCenters"]
