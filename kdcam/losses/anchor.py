"""Anchor loss: sigmoids, each wrong class weighed up as it nears or passes the label."""

import math
from typing import ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.cross_entropy import cross_entropy
from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.runtime.numerics import wide

Modulated = Literal["negative", "positive"]
_FLOOR = 1e-12


class AnchorLossConfig(LossConfig):
    """Anchor loss (Ryou et al., "Anchor Loss: Modulating Loss Scale Based on Prediction Difficulty", ICCV 2019, arXiv
    1909.11155): binary cross-entropy of each class, scaled by how the label and the wrong classes stand to each other.

    Idea: an image is hard when a wrong class scores near the label or above it, whatever the label's own score is.

    Equation: with q = sigmoid(logits), y the label, hi = min(1, max over j != y of q_j + slack) and lo = max(0, q_y -
    slack), both outside the gradient: anchor "negative": L = mean_n of -log q_y - sum over j != y of (1 + q_j -
    lo)^gamma log(1 - q_j); "positive": mean_n of -(1 - q_y + hi)^gamma log q_y - sum over j != y of log(1 - q_j).
    gamma 0 is binary cross-entropy, summed over the classes.

    When it helps: confusable classes (the paper reports gains over cross-entropy and focal loss). Where it fails:
    wrong labels, which it works hardest on; many classes, whose absent ones outweigh the label in the sum early in a
    run: softmax_until helps there. It stands in place of cross_entropy, not beside it. kdcam reads probabilities as a
    softmax of the logits, though the loss trains sigmoids: the order of the classes is meant, their calibration is not.

    Constants: gamma 0.5, slack 0.05 and anchor "negative" are the released code's (slryou41/AnchorLoss,
    anchor_loss.py), which may train the first 5 epochs with softmax cross-entropy; softmax_until says it as a fraction
    of the run, and 0 is that code's README (warm_up = False).
    """

    name: Literal["anchor"] = "anchor"
    gamma: float = Field(0.5, ge=0, allow_inf_nan=False, description="0: no class is weighed up or down")
    slack: float = Field(0.05, ge=0, le=1, description="how near a wrong class may come to the label, in q")
    anchor: Modulated = Field(
        "negative", description="which terms are scaled: wrong classes', or the label's"
    )
    softmax_until: float = Field(
        0.0, ge=0, lt=1, description="fraction of the run that softmax cross-entropy trains first"
    )

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels"})

    @model_validator(mode="after")
    def _softmax_counts(self) -> Self:
        if 0 < self.softmax_until <= self.start:
            raise ValueError(
                f"softmax_until = {self.softmax_until:g} has passed when the loss starts, at start = {self.start:g}; "
                "leave one out"
            )
        return self

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return AnchorLoss(self)


def anchor_loss(logits: Tensor, targets: Tensor, *, gamma: float, slack: float, anchor: Modulated) -> Tensor:
    """Return the sum over classes, mean over the batch, a scalar of 0 or more; ``logits`` (N, K), ``targets`` (N,).

    Source: Ryou et al. 2019 (arXiv 1909.11155). Equation and settings: `AnchorLossConfig`.
    """
    logits = wide(logits)
    label = targets[:, None]
    own = logits.gather(1, label)  # (N, 1)
    # 1 - sigmoid(x) as sigmoid(-x): exact where the label is nearly certain.
    doubt = (-own).sigmoid()
    positive, negative = F.softplus(-own), F.softplus(logits)
    if anchor == "positive":
        rival = logits.detach().scatter(1, label, -math.inf).amax(1, keepdim=True).sigmoid()
        positive = _modulator(doubt + (rival + slack).clamp(max=1), gamma) * positive
    else:
        negative = _modulator(logits.sigmoid() + (doubt.detach() + slack).clamp(max=1), gamma) * negative
    return (positive[:, 0] + negative.scatter(1, label, 0.0).sum(1)).mean()


def _modulator(base: Tensor, gamma: float) -> Tensor:
    # The root of a gamma below 1 has no slope at 0, where a base without slack comes to; hence the floor.
    return base.clamp(min=_FLOOR).pow(gamma)


class AnchorLoss(nn.Module):
    """`anchor_loss` of the student's logits, or softmax cross-entropy in the first part of the run."""

    def __init__(self, config: AnchorLossConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        config, logits = self.config, step.student.logits
        if step.progress < config.softmax_until:
            return cross_entropy(logits, step.targets, label_smoothing=0.0)
        return anchor_loss(logits, step.targets, gamma=config.gamma, slack=config.slack, anchor=config.anchor)


__all__ = ["AnchorLoss", "AnchorLossConfig", "anchor_loss"]
