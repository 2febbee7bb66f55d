"""Binary cross-entropy of each class, for images that show several classes or none."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.runtime.numerics import wide


class BinaryCrossEntropyConfig(LossConfig):
    """Binary cross-entropy between the sigmoid of each logit and whether the image shows that class.

    Idea: the ordinary loss of task = "multi-label": each class is a yes or no of its own.

    Equation: L = mean over images and classes of -(q log p + (1 - q) log(1 - p)), with p = sigmoid(logit) and q the
    row's 0 or 1 (torch's binary_cross_entropy_with_logits).

    Where it fails: many classes of which an image shows few: the absent ones outweigh the others; sigmoid_focal
    weighs them down.

    Constants: none.
    """

    name: Literal["binary_cross_entropy"] = "binary_cross_entropy"

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"multi-label"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return BinaryCrossEntropy()


def binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean binary cross-entropy, a scalar; ``logits`` (N, K), ``targets`` (N, K) in [0, 1]."""
    logits = wide(logits)
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype))


class BinaryCrossEntropy(nn.Module):
    """`binary_cross_entropy` of the student's logits."""

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return binary_cross_entropy(step.student.logits, step.targets)


__all__ = ["BinaryCrossEntropy", "BinaryCrossEntropyConfig", "binary_cross_entropy"]
