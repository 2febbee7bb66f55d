"""Wrong training labels made on purpose, with a record of which are wrong."""

from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.config import NoiseConfig
from kdcam.data.seeding import seeded_generator


class NoisyLabels(NamedTuple):
    """The labels of the training part before and after noise."""

    clean: Tensor  # (N,) int64
    noisy: Tensor  # (N,) int64, what training sees
    changed: Tensor  # (N,) bool, noisy != clean
    kind: str
    rate: float  # asked for; ``realised_rate`` is what came out

    @property
    def realised_rate(self) -> float:
        """Return the share of labels that are wrong."""
        return float(self.changed.double().mean())


def symmetric_noise(targets: Tensor, *, num_classes: int, rate: float, generator: torch.Generator) -> Tensor:
    """Return ``targets`` (N,) with each label changed with probability ``rate`` to one of the other classes.

    The exclusive form: a changed label is never the true one, and off the diagonal the transition matrix is
    rate / (num_classes - 1). Each label is drawn on its own, so the realised rate differs a little from
    ``rate``.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; symmetric noise needs at least 2 classes")
    hit = torch.rand(targets.shape, generator=generator) < rate
    shift = torch.randint(1, num_classes, targets.shape, generator=generator)
    return torch.where(hit, (targets + shift) % num_classes, targets)


def add_noise(targets: Tensor, config: NoiseConfig, *, num_classes: int) -> NoisyLabels:
    """Return the noisy labels that ``config`` asks for; the same for the same targets and config."""
    noisy = symmetric_noise(
        targets, num_classes=num_classes, rate=config.rate, generator=seeded_generator(config.seed)
    )
    return NoisyLabels(targets, noisy, noisy != targets, config.kind, config.rate)


__all__ = ["NoisyLabels", "add_noise", "symmetric_noise"]
