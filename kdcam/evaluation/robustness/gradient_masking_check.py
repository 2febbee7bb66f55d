"""One check for gradient masking: the images and attacks that it reads, and what it found."""

from collections.abc import Sequence

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from kdcam.attacks import pgd
from kdcam.attacks.budget import Budget
from kdcam.attacks.objective import right_decisions
from kdcam.data.batches.batch import Batch
from kdcam.evaluation.robustness.evaluated_images import logits_of
from kdcam.runtime.numerics import share_of
from kdcam.settings.messages import failed_check_text

MASKING_WARNING = "this number may be gradient masking"
LEAST_IMAGES = 10  # kdcam's choice: one image of fewer says nothing of a share
BLACK_BOX_LIMIT = 0.002  # AutoAttack's 0.2 points
_ROUNDING = 1e-9  # of differences of shares: 0.4 - 0.3 is more than 0.1


class MaskingCheck(BaseModel, frozen=True):
    """One sign: whether it is as it should be."""

    name: str
    passed: bool
    value: float | None  # None: there was too little to measure it on, so that it counts as passed
    limit: float
    text: str  # what was measured, and what a failure means
    # [0, 1] pixel units, of the budget that it was measured at; None: without an attack
    eps: float | None = None


def share_check(
    name: str, share: float, limit: float, text: str, images: int, *, eps: float | None = None
) -> MaskingCheck:
    """Return a check of a share that should not be above a limit; of too few images it says nothing."""
    judged = images >= LEAST_IMAGES
    passed, value = share <= limit + _ROUNDING or not judged, share if judged else None
    return MaskingCheck(name=name, passed=passed, value=value, limit=limit, text=text, eps=eps)


def failed_checks(checks: Sequence[MaskingCheck]) -> tuple[MaskingCheck, ...]:
    """Return the checks that are not as they should be."""
    return tuple(check for check in checks if not check.passed)


def failure_text(check: MaskingCheck) -> str:
    """Return in words what a failed check found."""
    assert check.value is not None
    return failed_check_text(check.name, check.text, check.value, check.limit, warning=MASKING_WARNING)


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


__all__ = [
    "BLACK_BOX_LIMIT",
    "LEAST_IMAGES",
    "MASKING_WARNING",
    "MaskingCheck",
    "MaskingProbe",
    "failed_checks",
    "failure_text",
    "share_check",
]
