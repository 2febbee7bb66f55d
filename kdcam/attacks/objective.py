"""What an attack raises, and when it has done its work: the same for one label an image and for several.

The losses other than the cross-entropy ask for one label an image. All are to be raised, so a minus sign stands where
a paper lowers its loss. L-inf attacks take the sign of their gradients and L2 attacks normalise them.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from kdcam.attacks.attack_requirements import LossName, too_few_classes
from kdcam.errors import ModelError

_TINY = 1e-12  # the DLR's scale is kept above it: equal logits give 0 instead of NaN
# Of the logits' range: an image that another class tops by less may be right again in a batch of another size,
# where sums round otherwise. kdcam's choice.
_CLEAR = 1e-4
# Of the largest logit, whose own digits end there; kdcam's choice.
_ROUNDED = 4 * torch.finfo(torch.float32).eps


def attack_loss(logits: Tensor, targets: Tensor, *, reduction: Literal["none", "sum"]) -> Tensor:
    """Return the cross-entropy that an attack raises: (N,), or its sum over the images.

    Args:
        logits: (N, K).
        targets: (N,) int64 labels: the cross-entropy. (N, K) float rows of 0 and 1: the binary cross-entropy
            of every class, summed over the classes.
        reduction: "none": one number an image.
    """
    if targets.ndim == 1:
        return cross_entropy(logits, targets, reduction=reduction)
    rows = binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return rows.sum() if reduction == "sum" else rows.sum(1)


def margin_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,): the largest other logit minus the label's; above 0: another class is on top.

    Source: Carlini & Wagner 2017, arXiv 1608.04644, f6 without kappa, untargeted.
    """
    return _largest_other(logits, labels) - _logit_of(logits, labels)


def dlr_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return (N,): the margin loss over the distance of the largest to the third largest logit.

    From -1 to 0 where the label is on top and from 0 on elsewhere: up to 1 where it comes second, without an upper end
    where it comes third or later. Neither a shift of the logits nor their scale changes it. Raises ``ModelError``
    below 3 classes.

    Source: difference of logits ratio, Croce & Hein 2020, arXiv 2003.01690, equation 6.
    """
    check_classes("dlr", logits)
    top = logits.topk(3, dim=1).values
    return margin_loss(logits, labels) / (top[:, 0] - top[:, 2]).clamp(min=_TINY)


def targeted_dlr_loss(logits: Tensor, labels: Tensor, aims: Tensor) -> Tensor:
    """Return (N,): the aimed class's logit minus the label's, over a distance between the largest logits.

    That distance is from the largest to the mean of the third and fourth largest. Raises ``ModelError`` below
    4 classes.

    Source: Croce & Hein 2020, arXiv 2003.01690, equation 7.
    """
    check_classes("targeted_dlr", logits)
    top = logits.topk(4, dim=1).values
    scale = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return (_logit_of(logits, aims) - _logit_of(logits, labels)) / scale.clamp(min=_TINY)


ATTACK_LOSSES: Mapping[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": lambda logits, targets: attack_loss(logits, targets, reduction="none"),
    "margin": margin_loss,
    "dlr": dlr_loss,
}
"""What attacks can be asked to raise, by name."""


class AttackGoal(NamedTuple):
    """What is raised for each image of a batch, and which of them are done with; it shrinks with the batch."""

    loss: LossName
    targets: Tensor  # (N,) labels to get away from; rows (N, K) with the cross-entropy only
    aims: Tensor | None = None  # (N,) classes to get to: the targeted DLR loss instead
    last_label: int = -1  # the largest of the labels where they have been looked through

    def losses(self, logits: Tensor) -> Tensor:
        """Return the loss (N,) of each image; ``ValueError`` where a label is none of the logits' classes."""
        self.check(logits)
        if self.aims is None:
            return ATTACK_LOSSES[self.loss](logits, self.targets)
        return targeted_dlr_loss(logits, self.targets, self.aims)

    def fooled(self, logits: Tensor) -> Tensor:
        """Return for each image (N,) whether nothing is left to attack, beyond rounding: any wrong class will do."""
        return is_clearly_fooled(logits, self.targets)

    def check(self, logits: Tensor) -> None:
        """Raise ``ValueError`` where a label is none of the logits' classes."""
        # A plain number, looked up once: asking the labels in each step would make the host wait for a GPU.
        if self.last_label >= logits.shape[1]:
            raise ValueError(
                f"targets hold the label {self.last_label}, but the network gives logits of {logits.shape[1]} "
                f"classes; wanted labels from 0 to {logits.shape[1] - 1}"
            )

    def of(self, chosen: Tensor) -> Self:
        """Return the goal of the chosen images (positions or a mask)."""
        aims = None if self.aims is None else self.aims[chosen]
        return self._replace(targets=self.targets[chosen], aims=aims)


def check_classes(loss: str, logits: Tensor) -> None:
    """Raise ``ModelError`` where logits (N, K) are of fewer classes than a loss needs."""
    problem = too_few_classes(loss, logits.shape[1])
    if problem is not None:
        raise ModelError(problem)


def is_fooled(logits: Tensor, targets: Tensor) -> Tensor:
    """Return for each image (N,) whether nothing is left to attack.

    With one label an image: the top class is another one. With several: every decision at probability 0.5 is
    wrong, since each of them counts.
    """
    if targets.ndim == 1:
        return logits.argmax(1) != targets
    return ~right_decisions(logits, targets).any(1)


def is_clearly_fooled(logits: Tensor, targets: Tensor) -> Tensor:
    """Return for each image (N,) whether it is fooled by more than rounding can take back.

    As `is_fooled`, but by a slack: with one label an image by 1e-4 of the distance from the smallest logit to the
    largest, which a shift of all logits leaves as it is, and by what float32 rounds of the largest; with several each
    decision by 1e-4 of the largest logit. An attack may leave such an image alone: it is fooled in another batch, too.
    """
    largest = logits.abs().amax(1)
    if targets.ndim == 1:
        least, most = logits.aminmax(dim=1)
        return margin_loss(logits, targets) > _CLEAR * (most - least) + _ROUNDED * largest
    slack = _CLEAR * largest
    return (torch.where(targets > 0.5, -logits, logits) > slack[:, None]).all(1)


def right_decisions(logits: Tensor, targets: Tensor) -> Tensor:
    """Return which decisions (N, K) at probability 0.5 agree with rows (N, K) of 0 and 1."""
    return (logits > 0) == (targets > 0.5)


def _logit_of(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.gather(1, classes[:, None]).squeeze(1)


def _largest_other(logits: Tensor, labels: Tensor) -> Tensor:
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.max(1).values


__all__ = [
    "ATTACK_LOSSES",
    "AttackGoal",
    "attack_loss",
    "check_classes",
    "dlr_loss",
    "is_clearly_fooled",
    "is_fooled",
    "margin_loss",
    "right_decisions",
    "targeted_dlr_loss",
]
