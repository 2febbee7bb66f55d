"""Neuron selectivity transfer: the student's channels are distributed over the image as the teacher's are."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, teacher_of
from kdcam.losses.shared.stages import (
    MAP_NEEDS,
    Stages,
    matched_maps,
    needs_of_stages,
    pool_maps_to_smaller,
    why_too_few_maps,
)
from kdcam.runtime.numerics import unit_rows


class NstConfig(LossConfig):
    """Neuron selectivity transfer, NST (Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity
    Transfer", 2017, arXiv 1707.01219): the channels' maps of teacher and student, as two samples of patterns, are drawn
    to one distribution.

    Idea: each channel selects some places of the image. Which channel does is of no matter, so that widths may
    differ and nothing has to be learned: the two sets of patterns are compared by their maximum mean discrepancy.

    Equation: L = sum over maps of mean_n ( mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) - 2 mean_ij k(s_i, t_j) ),
    with s_i and t_j the maps of one channel as vectors of length 1 and k(a, b) = (a . b)^2, the polynomial kernel with
    degree 2 and no constant. The pairs are the last maps of each size, matched from the end; of a pair the larger is
    average-pooled to the smaller first. stages = "published" takes RepDistiller's maps instead (feat[1:-1] there),
    matched from the first: its term on the pairs of its table.

    When it helps: ShuffleNet students of ResNets, where it passes kd by 0.1 to 0.2 points in the table of
    HobbitLong/RepDistiller. Where it fails: vgg13 -> MobileNetV2 ends 6 points below no distillation there, and pairs
    of one family stay behind kd.

    Constants: weight 50 and the kernel are those of HobbitLong/RepDistiller and megvii-research/mdistiller; the paper
    tries a linear and a Gaussian kernel too. With places fewer than channels the same number is had from
    | mean_i s_i s_i^T - mean_j t_j t_j^T |^2, the squares of all entries summed: less memory, and no difference of
    large numbers (kdcam's choice). Neither code's tensor of images x channels x channels x places is made.
    """

    name: Literal["nst"] = "nst"
    weight: float = Field(50.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    stages: Stages = "last-of-size"

    needs: ClassVar[frozenset[str]] = MAP_NEEDS
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})

    def needed(self) -> frozenset[str]:
        """Return what must exist with these settings: the maps that ``stages`` names."""
        return needs_of_stages(self.stages)

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can."""
        return why_too_few_maps(shapes, self.stages)

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Nst(self.stages)


def nst(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean over images of the squared discrepancy of two sets of channels, a scalar in [0, 2].

    The maps are (N, C, H, W) and (N, C', H', W'); a channel of zeros counts as a pattern of zeros. Source: Huang and
    Wang 2017 (arXiv 1707.01219), with the polynomial kernel.
    """
    student_map, teacher_map = pool_maps_to_smaller(student_map, teacher_map)
    student, teacher = patterns(student_map), patterns(teacher_map)
    places, channels = student.shape[2], max(student.shape[1], teacher.shape[1])
    with torch.autocast(student.device.type, enabled=False):
        if places < channels:
            return (_outer(student) - _outer(teacher)).square().sum((1, 2)).mean()
        return _likeness(student, student) + _likeness(teacher, teacher) - 2 * _likeness(student, teacher)


def patterns(feature_map: Tensor) -> Tensor:
    """Return the channels of maps (N, C, H, W) as vectors (N, C, H*W) of length 1; a channel of zeros stays."""
    return unit_rows(feature_map.flatten(2).flatten(0, 1)).view(*feature_map.shape[:2], -1)


def _outer(vectors: Tensor) -> Tensor:
    """Return the mean over channels of each vector times itself: (N, P, P) of (N, C, P)."""
    return vectors.mT @ vectors / vectors.shape[1]


def _likeness(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean of the kernel over images and pairs of channels, of (N, C, P) and (N, C', P)."""
    return (first @ second.mT).square().mean()


class Nst(nn.Module):
    """The sum of `nst` over the matched maps of student and teacher."""

    def __init__(self, stages: Stages = "last-of-size") -> None:
        super().__init__()
        self.stages = stages

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        pairs = matched_maps(step.student, teacher_of(step), self.stages)
        return torch.stack([nst(*pair) for pair in pairs]).sum()


__all__ = ["Nst", "NstConfig", "nst", "patterns"]
