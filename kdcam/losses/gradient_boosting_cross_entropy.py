"""Gradient-boosting cross-entropy: the label against the strongest wrong classes only."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.runtime.numerics import wide


class GradientBoostingCrossEntropyConfig(LossConfig):
    """Gradient-boosting cross-entropy (Sun et al., "Fine-grained Recognition: Accounting for Subtle Differences between
    Similar Classes", AAAI 2020, arXiv 1912.06842): cross-entropy over the label and its strongest wrong classes.

    Idea: wrong classes that nobody would take an image for only thin out the gradient of those that look like it.

    Equation: L = mean_n of -z_y + log(exp z_y + sum over j in J of exp z_j), with z the logits, y the label and J the
    classes of the `negatives` highest logits but the label.

    When it helps: many classes that look alike, as in fine-grained sets (the paper's claim). Where it fails: wrong
    classes beyond the top ones have no gradient, so that their logits drift and probabilities over all classes come
    out too unsure; early in a run the top ones are there by chance. It stands in place of cross_entropy, not beside
    it. With as few classes as leave none out it is cross_entropy, which is refused.

    Constants: 15 negatives, as in public implementations, one of which credits an author of the paper. The paper's
    diversification block, which hides peaks of the class maps beside this loss, is not here.
    """

    name: Literal["gradient_boosting_cross_entropy"] = "gradient_boosting_cross_entropy"
    negatives: int = Field(
        15, ge=1, description="wrong classes of an image that count, of the highest logits"
    )

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels"})

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can."""
        most = shapes.num_classes - 2
        if self.negatives <= most:
            return None
        lower = f"give negatives = {most} at most, or " if most >= 1 else ""
        return (
            f"negatives = {self.negatives} with {shapes.num_classes} classes leaves no wrong class out, which is "
            f"cross-entropy; {lower}take cross_entropy"
        )

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return GradientBoostingCrossEntropy(self.negatives)


def gradient_boosting_cross_entropy(logits: Tensor, targets: Tensor, *, negatives: int) -> Tensor:
    """Return the mean cross-entropy over the label and the strongest wrong classes, a scalar of 0 or more.

    ``logits`` are (N, K), ``targets`` (N,); K - 1 or more ``negatives`` are all: plain cross-entropy. Source: Sun et
    al. 2020 (arXiv 1912.06842).
    """
    logits = wide(logits)
    label = targets[:, None]
    own = logits.gather(1, label)  # (N, 1)
    count = min(negatives, logits.shape[1] - 1)
    strongest = logits.scatter(1, label, -math.inf).topk(count, 1, sorted=False).values
    return (torch.cat([own, strongest], 1).logsumexp(1) - own[:, 0]).mean()


class GradientBoostingCrossEntropy(nn.Module):
    """`gradient_boosting_cross_entropy` of the student's logits."""

    def __init__(self, negatives: int) -> None:
        super().__init__()
        self.negatives = negatives

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return gradient_boosting_cross_entropy(step.student.logits, step.targets, negatives=self.negatives)


__all__ = [
    "GradientBoostingCrossEntropy",
    "GradientBoostingCrossEntropyConfig",
    "gradient_boosting_cross_entropy",
]
