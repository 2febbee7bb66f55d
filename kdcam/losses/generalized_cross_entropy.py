"""Generalised cross-entropy (Lq): between cross-entropy and mean absolute error, for labels of which some are wrong."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.logits import label_log_likelihoods


class GeneralizedCrossEntropyConfig(LossConfig):
    """Generalised cross-entropy, the Lq loss (Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep
    Neural Networks with Noisy Labels", NeurIPS 2018, arXiv 1805.07836): bounded where cross-entropy is not.

    Idea: a wrong label that the network does not believe pulls less the less it is believed.

    Equation: L = mean_n sum_k q_nk (1 - p_nk^exponent) / exponent, with p = softmax(logits), q the label's one-hot row
    or a mixed row; exponent to 0: cross-entropy; 1: half the absolute error.

    When it helps: label noise. Where it fails: many classes and hard ones, where an exponent near 1 hardly leaves
    chance level. It stands in place of cross_entropy, not beside it.

    Constants: exponent 0.7 is the paper's q. The truncated form is truncated_generalized_cross_entropy.
    """

    name: Literal["generalized_cross_entropy"] = "generalized_cross_entropy"
    exponent: float = Field(0.7, gt=0, le=1, description="near 0: cross-entropy; 1: absolute error")

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return GeneralizedCrossEntropy(self.exponent)


def generalized_cross_entropy(logits: Tensor, targets: Tensor, *, exponent: float) -> Tensor:
    """Return the mean Lq loss, a scalar in [0, 1 / exponent]; ``logits`` (N, K), ``targets`` (N,) or rows (N, K).

    Source: Zhang and Sabuncu 2018 (arXiv 1805.07836), equation 6.
    """
    likely = label_log_likelihoods(logits, targets)
    each = -torch.expm1(exponent * likely.values) / exponent  # exact where the label is nearly certain
    return (likely.shares * each).sum(1).mean()


class GeneralizedCrossEntropy(nn.Module):
    """`generalized_cross_entropy` of the student's logits."""

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = exponent

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return generalized_cross_entropy(step.student.logits, step.targets, exponent=self.exponent)


__all__ = ["GeneralizedCrossEntropy", "GeneralizedCrossEntropyConfig", "generalized_cross_entropy"]
