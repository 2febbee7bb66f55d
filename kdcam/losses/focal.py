"""Focal loss: what is classified well already counts less."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.class_balance import ClassBalanceBeta, image_weights, training_weights
from kdcam.losses.shared.logits import label_log_likelihoods
from kdcam.runtime.numerics import wide

_FLOOR = 1e-12


class FocalConfig(LossConfig):
    """Focal loss for one label an image, the softmax form (after Lin et al., "Focal Loss for Dense Object Detection",
    ICCV 2017, arXiv 1708.02002): cross-entropy, weighed down where the label is likely already.

    Idea: images that are classified well should not outweigh the others.

    Equation: L = mean_n -sum_k q_nk (1 - p_nk)^gamma log p_nk, with p = softmax(logits) and q the label's one-hot row
    or the mixed row of Mixup and CutMix; gamma 0 is cross_entropy. With class_balance_beta above 0 (Cui et al., 2019,
    arXiv 1901.05555) each image's loss is multiplied by the weight of its class, as in cross_entropy.

    When it helps: classes of very different size, or a few hard images among many easy ones. Where it fails: wrong
    labels, which it works hardest on; probabilities come out less sure.

    Constants: gamma 2 is the paper's, given for its sigmoid form (`sigmoid_focal`); that form's alpha is left out, as
    is usual with one label of many. class_balance_beta 0 is off; 0.9, 0.99, 0.999 and 0.9999 are its paper's: images of
    a class beyond about 10, 100, 1,000 and 10,000 then count no more. That paper's class-balanced focal loss is the
    sigmoid form, its scripts with gamma 1 and beta 0.9999 on CIFAR-10.
    """

    name: Literal["focal"] = "focal"
    gamma: float = Field(2.0, ge=0, allow_inf_nan=False, description="0: none is weighed down")
    class_balance_beta: ClassBalanceBeta = 0.0

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        return Focal(self.gamma, training_weights(shapes, self.class_balance_beta))


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


def focal(logits: Tensor, targets: Tensor, *, gamma: float, class_weights: Tensor | None = None) -> Tensor:
    """Return the mean focal loss, a scalar; ``logits`` (N, K), ``targets`` (N,) or (N, K) rows that sum to 1.

    ``class_weights`` (K,) multiply each image's loss and do not enter the divisor of the mean.
    Source: Lin et al. 2017 (arXiv 1708.02002), equation 4, with the softmax in the sigmoid's place.
    """
    log_likely = label_log_likelihoods(logits, targets)
    # The root of a gamma below 1 has no slope at 0, hence the floor.
    wrong = (-torch.expm1(log_likely.values)).clamp(min=_FLOOR)
    likely = (log_likely.shares * wrong.pow(gamma) * log_likely.values).sum(1)
    if class_weights is not None:
        likely = image_weights(targets, class_weights) * likely
    return -likely.mean()


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

    class_weights: Tensor | None

    def __init__(self, gamma: float, class_weights: Tensor | None) -> None:
        super().__init__()
        self.gamma = gamma
        # Not in the state: they follow from the data.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return focal(step.student.logits, step.targets, gamma=self.gamma, class_weights=self.class_weights)


class SigmoidFocal(nn.Module):
    """`sigmoid_focal` of the student's logits."""

    def __init__(self, gamma: float, alpha: float) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return sigmoid_focal(step.student.logits, step.targets, gamma=self.gamma, alpha=self.alpha)


__all__ = ["Focal", "FocalConfig", "SigmoidFocal", "SigmoidFocalConfig", "focal", "sigmoid_focal"]
