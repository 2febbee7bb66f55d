"""Truncated generalised cross-entropy: images whose label the network does not believe are left out for a while."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.generalized_cross_entropy import generalized_cross_entropy
from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.logits import label_log_likelihoods
from kdcam.losses.shared.sample_memory import LatestRecord

_ALL_LEFT_OUT = 1e-3  # how near a mean may come to the constant; kdcam's choice
_ROUNDING = 1e-9  # of a count of periods: progress is a rounded fraction


class TruncatedGeneralizedCrossEntropyConfig(LossConfig):
    """Truncated generalised cross-entropy (Zhang and Sabuncu, "Generalized Cross Entropy Loss for Training Deep Neural
    Networks with Noisy Labels", NeurIPS 2018, arXiv 1805.07836): generalised cross-entropy, the Lq loss, of the
    training images whose labels are believed.

    Idea: after some training an unlikely label is more often wrong than hard; such images are left out, and looked at
    again now and then.

    Equation: L = mean_n of w_n Lq(p_y) + (1 - w_n) Lq(threshold), Lq(p) = (1 - p^exponent) / exponent, with p_y the
    label's likelihood and w_n in {0, 1} of each training image: 1 at first; at truncate_from, and every refresh_every
    from then on (fractions of the run), w_n = 1 where the image's p_y was above threshold when last seen.

    When it helps: many wrong labels. Where it fails: hard classes, whose images are left out with the wrong labels; a
    truncate_from before most labels are learned leaves out most images, and an image left out is learned no more. It
    stands in place of cross_entropy, not beside it.

    Constants: exponent 0.7 and threshold 0.5 are the paper's q and k. truncate_from 1/3 and refresh_every 1/12 are
    epochs 40 and 10 of 120, as on CIFAR-10 in AlanChou/Truncated-Loss; on CIFAR-100 there: 80 and 10 of 150 (0.533,
    0.067). kdcam's choice: p_y is the one met in training (augmented image, training mode), so that a refresh costs
    no extra pass and reads no other data; that code looks at all images again with the weights of the best test
    accuracy, which leaks the test set (it says that the paper has a validation part for this), one epoch earlier than
    here and once more before the last epoch. The mean is that code's; it says that the paper sums. Images not seen
    before a refresh are kept.
    """

    name: Literal["truncated_generalized_cross_entropy"] = "truncated_generalized_cross_entropy"
    exponent: float = Field(0.7, gt=0, le=1, description="near 0: cross-entropy; 1: absolute error")
    threshold: float = Field(
        0.5, gt=0, lt=1, description="likelihood of the label at which an image is left out"
    )
    truncate_from: float = Field(
        1 / 3, gt=0, lt=1, description="fraction of the run from which images are left out"
    )
    refresh_every: float = Field(
        1 / 12, gt=0, le=1, description="fraction of the run after which w is renewed"
    )

    trains_classifier: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels"})

    @model_validator(mode="after")
    def _sees_images_before_it_drops_them(self) -> Self:
        if self.start >= self.truncate_from:
            raise ValueError(
                f"start = {self.start:g} with truncate_from = {self.truncate_from:g}: no likelihood would be known "
                "when images are first left out; give a truncate_from after start"
            )
        return self

    def diagnose(self, terms: Mapping[str, float], shapes: Shapes) -> str | None:
        """Return a warning when an epoch's mean is the constant of images left out: nothing is learned from then on."""
        del shapes
        constant = _lq(self.threshold, self.exponent)
        mean = terms.get(self.name)
        if mean is None or abs(mean - constant) > _ALL_LEFT_OUT * constant:
            return None
        return (
            f"{self.name}: {mean:.3g} is the value of images left out, so that hardly any is learned from; "
            f"raise truncate_from (now {self.truncate_from:.3g}) or lower threshold (now {self.threshold:g})"
        )

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        return TruncatedGeneralizedCrossEntropy(self, images=len(shapes.train_targets))


def truncated_generalized_cross_entropy(
    logits: Tensor, targets: Tensor, kept: Tensor, *, exponent: float, threshold: float
) -> Tensor:
    """Return the mean loss of a batch, a scalar in [0, 1 / exponent].

    Args:
        logits: (N, K).
        targets: (N,) class indices.
        kept: (N,) bool; an image that is not kept counts as one whose label has likelihood ``threshold``.
        exponent: q of Lq.
        threshold: k.

    Source: Zhang and Sabuncu 2018 (arXiv 1805.07836), the truncated loss.
    """
    rows = F.one_hot(targets, logits.shape[1]) * kept[:, None]
    left_out = (~kept).to(torch.float32).mean()
    return generalized_cross_entropy(logits, rows, exponent=exponent) + _lq(threshold, exponent) * left_out


def _lq(likelihood: float, exponent: float) -> float:
    return -math.expm1(exponent * math.log(likelihood)) / exponent


class TruncatedGeneralizedCrossEntropy(nn.Module):
    """`truncated_generalized_cross_entropy` of the student's logits, with what it remembers of each training image."""

    kept: Tensor  # (n,) bool
    refreshes: Tensor  # () int64, those done so far; kept on the device, so that the host need not wait

    def __init__(self, config: TruncatedGeneralizedCrossEntropyConfig, *, images: int) -> None:
        super().__init__()
        self.config = config
        self.likelihoods = LatestRecord(torch.ones(images))  # of images not seen yet: certain, hence kept
        self.register_buffer("kept", torch.ones(images, dtype=torch.bool))
        self.register_buffer("refreshes", torch.zeros((), dtype=torch.int64))
        self._seen_due = -1  # refreshes that were due at the last step of this process

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step, after a refresh that is due; then remember the batch."""
        config, logits = self.config, step.student.logits
        self._refresh(due=self._refreshes_by(step.progress))
        with torch.no_grad():
            likelihoods = label_log_likelihoods(logits, step.targets).values[:, 0].exp()
        self.likelihoods.write(step.indices, likelihoods)
        return truncated_generalized_cross_entropy(
            logits,
            step.targets,
            self.kept[step.indices],
            exponent=config.exponent,
            threshold=config.threshold,
        )

    def _refreshes_by(self, progress: float) -> int:
        """Return how many refreshes fall due up to a fraction of the run."""
        periods = (progress - self.config.truncate_from) / self.config.refresh_every
        return max(0, 1 + math.floor(periods + _ROUNDING))

    @torch.no_grad()
    def _refresh(self, *, due: int) -> None:
        if due == self._seen_due:  # known without asking the device; spares a look at every training image
            return
        self._seen_due = due
        believed = self.likelihoods.values > self.config.threshold
        # In place: compiled steps must find the same tensors.
        self.kept.copy_(torch.where(self.refreshes < due, believed, self.kept))
        self.refreshes.clamp_(min=due)


__all__ = [
    "TruncatedGeneralizedCrossEntropy",
    "TruncatedGeneralizedCrossEntropyConfig",
    "truncated_generalized_cross_entropy",
]
