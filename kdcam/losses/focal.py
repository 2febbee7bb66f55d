"""Focal loss: what is classified well already counts less."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.likelihoods import label_log_likelihoods
from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.numerics import wide

_FLOOR = 1e-12


class FocalConfig(LossConfig):
    """Focal loss for one label an image, the softmax form (after Lin et al., "Focal Loss for Dense Object Detection",
    ICCV 2017, arXiv 1708.02002): cross-entropy, weighed down where the label is likely already.

    Idea: images that are classified well should not outweigh the others.

    Equation: L = mean_n -sum_k q_nk (1 - p_nk)^gamma log p_nk, with p = softmax(logits) and q the label's one-hot row
    or the mixed row of Mixup and CutMix; gamma 0 is cross_entropy.

    When it helps: classes of very different size, or a few hard images among many easy ones. Where it fails: wrong
    labels, which it works hardest on; probabilities come out less sure.

    Constants: gamma 2 is the paper's, given for its sigmoid form (`sigmoid_focal`); that form's alpha is left out, as
    is usual with one label of many.
    """

    name: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0, allow_inf_nan=False, description="0: none is weighed down")

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Focal(self.gamma)


class SigmoidFocalConfig(LossConfig):
    """Sigmoid focal loss (Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv 1708.02002): binary
    cross-entropy of each class, weighed down where the decision is right already.

    Idea: an image shows few of many classes; the easy absent ones would drown the others.

    Equation: L = mean over images and classes of -alpha_t (1 - p_t)^gamma log p_t, with p = sigmoid(logit), p_t = p
    where the class is there and 1 - p where it is not, alpha_t = alpha and 1 - alpha (equation 5).

    When it helps: many classes, few of them in an image. Where it fails: probabilities come out flat, so that a
    threshold of 0.5 suits them less; with wrong labels it works hardest on those.

    Constants: gamma 2 and alpha 0.25 are the paper's. The mean over images and classes is kdcam's choice, as in
    binary_cross_entropy; the paper divides the sum by the number of present ones.
    """

    name: Literal["sigmoid_focal"] = "sigmoid_focal"
    gamma: float = Field(2.0, ge=0, allow_inf_nan=False, description="0: none is weighed down")
    alpha: float = Field(
        0.25, gt=0, lt=1, description="weight of present classes; absent ones have 1 - alpha"
    )

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"multi-label"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return SigmoidFocal(self.gamma, self.alpha)


def focal(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """Return the mean focal loss, a scalar; ``logits`` (N, K), ``targets`` (N,) or (N, K) rows that sum to 1.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 4, with the softmax in the sigmoid's place.
    """
    log_likely = label_log_likelihoods(logits, targets)
    # The root of a gamma below 1 has no slope at 0, hence the floor.
    wrong = (-torch.expm1(log_likely.values)).clamp(min=_FLOOR)
    return -(log_likely.shares * wrong.pow(gamma) * log_likely.values).sum(1).mean()


def sigmoid_focal(logits: Tensor, targets: Tensor, *, gamma: float, alpha: float) -> Tensor:
    """Return the mean sigmoid focal loss, a scalar; ``logits`` (N, K), ``targets`` (N, K) of 0 and 1.

    Source: Lin et al. 2017 (arXiv 1708.02002), equation 5.
    """
    logits = wide(logits)
    targets = targets.to(logits.dtype)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    # 1 - p_t as the sigmoid of the wrong side's logit: exact where p_t is near 1. The root of a gamma below 1
    # has no slope at 0, hence the floor.
    wrong = (logits * (1 - 2 * targets)).sigmoid().clamp(min=_FLOOR)
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return (balance * wrong.pow(gamma) * cross_entropy).mean()


class Focal(nn.Module):
    """`focal` of the student's logits."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return focal(step.student.logits, step.targets, gamma=self.gamma)


class SigmoidFocal(nn.Module):
    """`sigmoid_focal` of the student's logits."""

    def __init__(self, gamma: float, alpha: float) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return sigmoid_focal(step.student.logits, step.targets, gamma=self.gamma, alpha=self.alpha)


__all__ = ["Focal", "FocalConfig", "SigmoidFocal", "SigmoidFocalConfig", "focal", "sigmoid_focal"]
