"""Cross-entropy with label smoothing, for labels and for mixed rows."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.numerics import wide


class CrossEntropyConfig(LossConfig):
    """Cross-entropy between the softmax of the logits and the label.

    Idea: the ordinary classification loss; every recipe without a teacher needs it, or another loss that pulls
    the right class up.

    Equation: L = mean_n -sum_k q_nk log p_nk, with p = softmax(logits) and q the label's one-hot row (or the mixed
    row of Mixup and CutMix), smoothed to (1 - s) q + s / K.

    Constants: label_smoothing s = 0 by default (0: none; 1: the label is ignored); 0.1 is the usual value
    (Szegedy et al., 2016, arXiv 1512.00567).
    """

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: float = Field(0.0, ge=0, le=1, description="0: none; 1: the label is ignored")

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return CrossEntropy(self.label_smoothing)


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float) -> Tensor:
    """Return the mean cross-entropy over the batch, a scalar.

    ``logits`` are (N, K); ``targets`` are (N,) class indices or (N, K) rows that sum to 1.
    """
    logits = wide(logits)
    if targets.is_floating_point():
        targets = targets.to(logits.dtype)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


class CrossEntropy(nn.Module):
    """`cross_entropy` of the student's logits."""

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return cross_entropy(step.student.logits, step.targets, label_smoothing=self.label_smoothing)


__all__ = ["CrossEntropy", "CrossEntropyConfig", "cross_entropy"]
