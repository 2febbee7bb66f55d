"""Cross-entropy with label smoothing, for labels and for mixed rows."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.class_balance import ClassBalanceBeta, image_weights, training_weights
from kdcam.runtime.numerics import wide


class CrossEntropyConfig(LossConfig):
    """Cross-entropy between the softmax of the logits and the label.

    Idea: the ordinary classification loss; every recipe without a teacher needs it, or another loss that pulls
    the right class up.

    Equation: L = mean_n -sum_k q_nk log p_nk, with p = softmax(logits) and q the label's one-hot row (or the mixed
    row of Mixup and CutMix), smoothed to (1 - s) q + s / K. With class_balance_beta b above 0 (Cui et al.,
    "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, arXiv 1901.05555) each image's cross-entropy
    is multiplied by its label's weight, mixed rows' by the rows' mean of the weights: (1 - b) / (1 - b^n) for a class
    of n training images, rescaled to 1 on average over the classes. The mean is over the batch, as in the released code
    (richardaecn/class-balanced-loss); torch's CrossEntropyLoss(weight=...) divides by the sum of the weights.

    Constants: label_smoothing s = 0 by default (0: none; 1: the label is ignored); 0.1 is the usual value
    (Szegedy et al., 2016, arXiv 1512.00567). class_balance_beta 0 is off; the paper tries 0.9, 0.99, 0.999 and 0.9999:
    images of a class beyond about 10, 100, 1,000 and 10,000 then add nothing to its effective number, so that larger
    values lift rarer classes more.
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0, le=1, description="0: none; 1: the label is ignored")
    class_balance_beta: ClassBalanceBeta = 0.0

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        weights = training_weights(shapes, self.class_balance_beta)
        return CrossEntropy(self.label_smoothing, weights)


def cross_entropy(
    logits: Tensor, targets: Tensor, *, label_smoothing: float, class_weights: Tensor | None = None
) -> Tensor:
    """Return the mean cross-entropy over the batch, a scalar.

    ``logits`` are (N, K); ``targets`` are (N,) class indices or (N, K) rows that sum to 1; ``class_weights`` (K,)
    multiply an image's whole cross-entropy, smoothing included, and do not enter the divisor of the mean.
    """
    logits = wide(logits)
    if targets.is_floating_point():
        targets = targets.to(logits.dtype)
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    each = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
    return (image_weights(targets, class_weights) * each).mean()


class CrossEntropy(nn.Module):
    """`cross_entropy` of the student's logits."""

    class_weights: Tensor | None

    def __init__(self, label_smoothing: float, class_weights: Tensor | None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        # Not in the state: they follow from the data.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return cross_entropy(
            step.student.logits,
            step.targets,
            label_smoothing=self.label_smoothing,
            class_weights=self.class_weights,
        )


__all__ = ["CrossEntropy", "CrossEntropyConfig", "cross_entropy"]
