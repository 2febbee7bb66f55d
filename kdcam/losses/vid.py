"""Variational information distillation: the teacher's maps are predicted from the student's, with a variance."""

import math
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, teacher_of
from kdcam.losses.shared.stages import (
    MAP_NEEDS,
    Stages,
    matched_maps,
    matched_sizes,
    needs_of_stages,
    pool_maps_to_smaller,
    why_too_few_maps,
)
from kdcam.runtime.numerics import wide

LEAST_VARIANCE = 1e-5  # eps of the authors' code, as HobbitLong/RepDistiller gives it


class VidConfig(LossConfig):
    """Variational information distillation, VID (Ahn et al., "Variational Information Distillation for Knowledge
    Transfer", CVPR 2019, arXiv 1904.05835): the mutual information of the teacher's and the student's maps is raised.

    Idea: how well the teacher's map can be predicted from the student's bounds what they share from below. Channels
    that cannot be predicted get a large variance and count for less.

    Equation: L = sum over pairs of maps of mean over images, channels and places of
    ( (F_teacher - m(F_student))^2 / v_c + log v_c ) / 2, with m three convolutions of 1 x 1 (the inner two have the
    teacher's width, ReLU between) and v_c = 1e-5 + softplus(a_c) a learned variance of each of the teacher's channels.
    The pairs are the last maps of each size, matched from the end; of a pair the larger is average-pooled to the
    smaller first. stages = "published" takes RepDistiller's maps instead (feat[1:-1] there), matched from the first:
    its term on the pairs of its table. The loss may fall below 0.

    When it helps: teachers of other widths and families (the paper's claim). Where it fails: in the table of
    HobbitLong/RepDistiller it stays behind kd in all rows but ResNet50 -> MobileNetV2, where it is 0.2 points ahead.

    Constants: weight 1 beside cross-entropy, initial_variance 5 and 1e-5 are those of HobbitLong/RepDistiller, which
    follows the authors' code; so does torchdistill. In megvii-research/mdistiller the variances are not handed to the
    optimiser and stay at 5.
    """

    name: Literal["vid"] = "vid"
    initial_variance: float = Field(
        5.0,
        gt=LEAST_VARIANCE,
        allow_inf_nan=False,
        description="of each of the teacher's channels at the start",
    )
    stages: Stages = "last-of-size"

    needs: ClassVar[frozenset[str]] = MAP_NEEDS
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})
    takes_one_place: ClassVar[bool] = True

    def needed(self) -> frozenset[str]:
        """Return what must exist with these settings: the maps that ``stages`` names."""
        return needs_of_stages(self.stages)

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can."""
        return why_too_few_maps(shapes, self.stages)

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        predictions = (
            GaussianPrediction(student[0], teacher[0], initial_variance=self.initial_variance)
            for student, teacher in matched_sizes(shapes, self.stages)
        )
        return Vid(predictions, stages=self.stages)


def vid(predicted: Tensor, variance: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the teacher's map, less log(2 pi) / 2: a scalar.

    Args:
        predicted: (N, C, H, W), the mean of each value.
        variance: (C,), above 0.
        teacher_map: (N, C, H, W).

    Source: Ahn et al. 2019 (arXiv 1904.05835), as a mean, as in HobbitLong/RepDistiller.
    """
    variance = wide(variance)[:, None, None]
    apart = (wide(predicted) - wide(teacher_map)).square()
    return (apart / variance + variance.log()).mean() / 2


class GaussianPrediction(nn.Module):
    """A Gaussian of a teacher's map, of which the mean is read from the student's map and the variance is learned."""

    def __init__(self, student_channels: int, teacher_channels: int, *, initial_variance: float) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False),
        )
        start = initial_variance - LEAST_VARIANCE
        # The inverse of softplus, in a form that does not overflow.
        self.scale = nn.Parameter(torch.full((teacher_channels,), start + math.log(-math.expm1(-start))))

    def forward(self, student_map: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean (N, C', H, W) and variance (C',) of the teacher's map, of the student's (N, C, H, W)."""
        return self.mean(student_map), F.softplus(self.scale) + LEAST_VARIANCE


class Vid(nn.Module):
    """The sum of `vid` over the matched maps of student and teacher, with predictions of its own."""

    def __init__(self, predictions: Iterable[GaussianPrediction], *, stages: Stages = "last-of-size") -> None:
        super().__init__()
        self.stages = stages
        self.predictions = nn.ModuleList(predictions)

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        pairs = matched_maps(step.student, teacher_of(step), self.stages)
        terms = []
        for prediction, pair in zip(self.predictions, pairs, strict=True):
            student_map, teacher_map = pool_maps_to_smaller(*pair)
            mean, variance = prediction(student_map)
            terms.append(vid(mean, variance, teacher_map))
        return torch.stack(terms).sum()


__all__ = ["LEAST_VARIANCE", "GaussianPrediction", "Vid", "VidConfig", "vid"]
