"""Include-and-Exclude loss: an image stands near the centre of its class and far from the others, in exp space."""

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.class_centers import USUAL_CENTER_RATE, LearnedCenters, MovedCenters
from kdcam.runtime.numerics import mean_squares, mean_where

IncludeExcludeForm = Literal["hinge", "log-ratio"]


class IncludeExcludeConfig(LossConfig):
    """Include-and-Exclude loss (Wu et al., "Exponential Discriminative Metric Embedding in Deep Learning",
    Neurocomputing 2018, arXiv 1803.02504): the distance to the own class's centre and the mean distance to the other
    centres are parted by a margin, after an exponential.

    Idea: cross-entropy separates classes but leaves them wide. Each class has a centre among the embeddings; the
    exponential counts what is near and forgets what is far enough.

    Equation: with d_ij = |x_i - c_j|^2 / E, D+ = d_iy, D- = mean of d_ij over the other classes, e+ = exp(-D+ / s),
    e- = exp(-D- / s) and s the bandwidth: form "hinge": mean of max(0, margin - (e+ - e-)); "log-ratio": mean of
    -log(e+ / (e+ + exp(margin) e-)). centers "moved": after each step, outside the gradient, c_j -= center_rate *
    sum over the batch's images of j of (c_j - x_i) / (1 + their number), as in center loss (Wen et al. 2016); a
    class's first images set its centre, and a class without one counts neither way. "learned": the centres are
    parameters under the recipe's optimiser, without weight decay.

    When it helps: embeddings that are compared by distance (faces, few-shot); the paper reports gains for objects
    and faces. Where it fails: as an addition to cross-entropy a small study on Fashion-MNIST, with learned centres,
    saw no gain (-0.2 to -1.4 points), nor did kdcam's own runs on MNIST (docs/results/losses.md); large weights
    lower the rank of the embeddings. Class counts near the batch size leave most centres unmoved in a step. Under
    model.head = "cosine" embeddings have length 1, where the bandwidth should be about 1 / E.

    Constants: the paper's equations, margin, weight and data are not known to us, and no code was released: both
    forms, the division by the width E (without it exp underflows), weight 0.1, margin 0.5 and bandwidth 1 are kdcam's
    choice. center_rate 0.5 is center loss's.
    """

    name: Literal["include_exclude"] = "include_exclude"
    weight: float = Field(0.1, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    form: IncludeExcludeForm = Field("hinge", description="how the two exponentials are parted")
    margin: float = Field(0.5, gt=0, allow_inf_nan=False, description="at most 1 for the hinge")
    bandwidth: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="mean squared difference at which exp is 1/e"
    )
    centers: Literal["moved", "learned"] = Field("moved", description="moved to the images, or parameters")
    center_rate: float = Field(USUAL_CENTER_RATE, gt=0, le=1, description="of moved centres")

    takes: ClassVar[frozenset[str]] = frozenset({"labels"})

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.form == "hinge" and self.margin > 1:
            raise ValueError(
                f'margin = {self.margin:g} with form = "hinge", where e+ - e- is at most 1; give 1 or less, or '
                'form = "log-ratio"'
            )
        if self.center_rate != USUAL_CENTER_RATE and self.centers == "learned":
            raise ValueError(
                f'center_rate = {self.center_rate:g} is of moved centres, and centers = "learned"; leave one out'
            )
        return self

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        classes, width = shapes.num_classes, shapes.student.embedding
        if self.centers == "learned":
            return IncludeExclude(self, LearnedCenters(classes, width))
        return IncludeExclude(self, MovedCenters(classes, width, rate=self.center_rate))


def include_exclude(
    embedding: Tensor,
    centers: Tensor,
    seen: Tensor,
    targets: Tensor,
    *,
    form: IncludeExcludeForm,
    margin: float,
    bandwidth: float,
) -> Tensor:
    """Return the mean loss of a batch, a scalar of 0 or more.

    Args:
        embedding: (N, E).
        centers: (K, E).
        seen: (K,) bool, the classes that have a centre; others count neither as own nor as other class.
        targets: (N,) class indices.
        form: "hinge" or "log-ratio", see `IncludeExcludeConfig`.
        margin: between the exponentials, or between the mean squared differences over ``bandwidth``.
        bandwidth: s.
    """
    distances = mean_squares(embedding, centers) / bandwidth  # (N, K)
    own = F.one_hot(targets, len(centers)).bool()
    near = distances.gather(1, targets[:, None])[:, 0]
    others = ~own & seen
    far = (distances * others).sum(1) / others.sum(1).clamp(min=1)
    if form == "hinge":
        each = (margin - torch.exp(-near) + torch.exp(-far)).clamp(min=0)
    else:
        each = F.softplus(margin + near - far)
    counted = seen[targets] & others.any(1)
    return mean_where(each, counted)


class IncludeExclude(nn.Module):
    """`include_exclude` of the student's embedding, with centres of its own."""

    def __init__(self, config: IncludeExcludeConfig, centers: MovedCenters | LearnedCenters) -> None:
        super().__init__()
        self.config, self.centers = config, centers

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step; moved centres then follow the batch."""
        config, embedding = self.config, step.student.embedding
        centers = self.centers(embedding.detach(), step.targets)
        return include_exclude(
            embedding,
            centers.positions,
            centers.seen,
            step.targets,
            form=config.form,
            margin=config.margin,
            bandwidth=config.bandwidth,
        )


__all__ = ["IncludeExclude", "IncludeExcludeConfig", "include_exclude"]
