"""Attention transfer: where the student's channels are active follows where the teacher's are."""

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
from kdcam.runtime.numerics import unit_rows, wide


class AttentionTransferConfig(LossConfig):
    """Attention transfer (Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017, arXiv 1612.03928):
    the student's spatial attention at each depth follows the teacher's.

    Idea: the energy of all channels at a place says how much a network looks there. It is a map of one channel, so the
    widths of teacher and student need not match and nothing has to be learned to compare them.

    Equation: L = sum over maps of mean_n,p ( A_student / |A_student| - A_teacher / |A_teacher| )^2 with A(p) =
    mean_c F_c(p)^2 at place p and |A| its length over the places of an image. The pairs are the last maps of each
    size, matched from the end; of a pair the larger is average-pooled to the smaller first. stages = "published" takes
    RepDistiller's maps instead (feat[1:-1] there), matched from the first: its term on the pairs of its table.

    When it helps: teacher and student of one family; in the table of HobbitLong/RepDistiller it comes close to kd there
    and passes it for resnet32x4 -> resnet8x4. Where it fails: across families: in that table vgg13 -> MobileNetV2 ends
    5 points below no distillation. A map of one place has the same attention in any network, and adds nothing.

    Constants: weight 1000 beside cross-entropy is that of HobbitLong/RepDistiller and megvii-research/mdistiller, whose
    equation this is, as it is that of the authors' code (szagoruyko/attention-transfer). It goes with the published
    maps: the last of each size make the term 0.55 to 1.83 times as large on that table's pairs. Equation 2 of the paper
    has the length of the difference where the code has its mean square; torchdistill's ATLoss offers both. Networks for
    large images count their stem's map as one more pair, where it has a size of its own.
    """

    name: Literal["attention_transfer"] = "attention_transfer"
    weight: float = Field(1000.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
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
        return AttentionTransfer(self.stages)


def attention(feature_map: Tensor) -> Tensor:
    """Return the mean square of the channels at each place, (N, H*W) rows of length 1, of maps (N, C, H, W).

    A map of zeros gives zeros, without gradient.
    """
    return unit_rows(wide(feature_map).square().mean(1).flatten(1))


def attention_transfer(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean square of the difference of two maps' `attention`, a scalar in [0, 2 / (H * W)].

    The maps are (N, C, H, W) and (N, C', H', W'). Source: Zagoruyko and Komodakis 2017 (arXiv 1612.03928), as in
    szagoruyko/attention-transfer.
    """
    student_map, teacher_map = pool_maps_to_smaller(student_map, teacher_map)
    return (attention(student_map) - attention(teacher_map)).square().mean()


class AttentionTransfer(nn.Module):
    """The sum of `attention_transfer` over the matched maps of student and teacher."""

    def __init__(self, stages: Stages = "last-of-size") -> None:
        super().__init__()
        self.stages = stages

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        pairs = matched_maps(step.student, teacher_of(step), self.stages)
        return torch.stack([attention_transfer(*pair) for pair in pairs]).sum()


__all__ = ["AttentionTransfer", "AttentionTransferConfig", "attention", "attention_transfer"]
