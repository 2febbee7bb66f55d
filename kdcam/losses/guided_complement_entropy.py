"""Guided complement entropy: the wrong classes are to share evenly what the label leaves them."""

import math
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.runtime.numerics import wide


class GuidedComplementEntropyConfig(LossConfig):
    """Guided complement entropy (Chen et al., "Improving Adversarial Robustness via Guided Complement Entropy", ICCV
    2019, arXiv 1903.09799): flattens the probabilities of the wrong classes, guided by the label's.

    Idea: an attack follows the strongest wrong class; where all are alike there is none to follow.

    Equation: L = mean_n p_y^alpha / log K * sum over j != y of P_j log P_j, with p = softmax(logits) and P_j = p_j /
    (1 - p_y); from -log(K - 1) / log K, where the label is certain and the others are even, to 0.

    When it helps: robustness to weak attacks (the paper). Where it fails: its gradient is small at the start of a run
    with many classes; with two classes there is nothing to flatten, which is refused. It stands in place of
    cross_entropy, not beside it. What looks robust may be a masked gradient.

    Constants: alpha 1/3 and the division by log K are the released code's (henry8527/GCE, GCE.py), which fixes K to 10.
    """

    name: Literal["guided_complement_entropy"] = "guided_complement_entropy"
    alpha: float = Field(1 / 3, ge=0, allow_inf_nan=False, description="0: the label does not guide")

    trains_classifier: ClassVar[bool] = True

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes; None where it can."""
        if shapes.num_classes > 2:
            return None
        return f"found {shapes.num_classes} classes, which leave one wrong class at most; take cross_entropy"

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return GuidedComplementEntropy(self.alpha)


def guided_complement_entropy(logits: Tensor, targets: Tensor, *, alpha: float) -> Tensor:
    """Return the mean guided complement entropy, a scalar in [-log(K - 1) / log K, 0].

    ``logits`` are (N, K) with K above 2, ``targets`` (N,). Source: Chen et al. 2019 (arXiv 1903.09799).
    """
    logits = wide(logits)
    label = targets[:, None]
    guide = logits.log_softmax(1).gather(1, label)[:, 0].mul(alpha).exp()
    # Among the wrong classes alone: no quotient of two numbers that vanish as the label gets certain.
    rest = logits.scatter(1, label, -math.inf).log_softmax(1)
    entropy = -(rest.exp() * rest.scatter(1, label, 0.0)).sum(1)
    return -(guide * entropy).mean() / math.log(logits.shape[1])


class GuidedComplementEntropy(nn.Module):
    """`guided_complement_entropy` of the student's logits."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return guided_complement_entropy(step.student.logits, step.targets, alpha=self.alpha)


__all__ = ["GuidedComplementEntropy", "GuidedComplementEntropyConfig", "guided_complement_entropy"]
