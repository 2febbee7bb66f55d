"""A few images and the attacks on them that several checks read."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks import pgd
from kdcam.attacks.budget import Norm
from kdcam.attacks.objective import right_decisions
from kdcam.data.batches.batch import Batch
from kdcam.evaluation.robustness.evaluated_images import logits_of
from kdcam.runtime.numerics import share_of


class Budget(NamedTuple):
    """What the attacks may change, and the seed of their random starts."""

    norm: Norm
    eps: float  # [0, 1] pixel units
    seed: int = 0


class MaskingProbe:
    """The checked images, and attacks on them; each attack of the budget itself is run once."""

    def __init__(self, classifier: nn.Module, batches: Sequence[Batch], budget: Budget) -> None:
        self.classifier, self.batches, self.budget = classifier, batches, budget
        self._found: dict[tuple[int, bool], list[Tensor]] = {}  # by steps and whether to the end

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(len(batch.indices) for batch in self.batches)

    def attacked(self, eps: float, steps: int, *, to_the_end: bool = False) -> list[Tensor]:
        """Return the adversarial images of pgd, a tensor a batch; ``to_the_end``: steps go on after an image fools."""
        if eps != self.budget.eps:  # read once: not worth the memory
            return self._attack(eps, steps, to_the_end=to_the_end)
        key = (steps, to_the_end)
        if key not in self._found:
            self._found[key] = self._attack(eps, steps, to_the_end=to_the_end)
        return self._found[key]

    def _attack(self, eps: float, steps: int, *, to_the_end: bool) -> list[Tensor]:
        return [
            pgd(
                self.classifier,
                batch.images,
                batch.targets,
                eps=eps,
                alpha=eps / 4,
                steps=steps,
                norm=self.budget.norm,
                seed=self.budget.seed,
                indices=batch.indices,
                stop_when_fooled=not to_the_end,
            )
            for batch in self.batches
        ]

    def right(self, found: Sequence[Tensor]) -> Tensor:
        """Return what is right (N,), or of several labels (N, K), for images of each batch."""
        parts = []
        for images, batch in zip(found, self.batches, strict=True):
            logits = logits_of(self.classifier, images)
            single = batch.targets.ndim == 1
            parts.append(
                logits.argmax(1) == batch.targets if single else right_decisions(logits, batch.targets)
            )
        return torch.cat(parts)

    def accuracy(self, found: Sequence[Tensor]) -> float:
        """Return the share that is right, for images of each batch."""
        return share_of(self.right(found))

    @property
    def clean_accuracy(self) -> float:
        """The share that is right without an attack."""
        return self.accuracy([batch.images for batch in self.batches])


__all__ = ["Budget", "MaskingProbe"]
