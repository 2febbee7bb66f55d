"""FitNet: the student's map at one depth, through a learned adapter, follows the teacher's."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, teacher_of
from kdcam.losses.shared.stages import (
    MAP_NEEDS,
    Stages,
    all_maps,
    all_sizes,
    needs_of_stages,
    pool_maps_to_smaller,
    teacher_widths,
    why_too_few_maps,
)
from kdcam.runtime.numerics import wide


class FitnetConfig(LossConfig):
    """FitNet (Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, arXiv 1412.6550): the teacher's map at
    one depth is a hint for the student's map there.

    Idea: what a network knows half way guides a student better than its answers alone. A learned adapter brings the
    student's channels to the teacher's; it is thrown away after training.

    Equation: L = mean over images, channels and places of ( adapter(F_student) - F_teacher )^2, with the adapter a
    convolution of 1 x 1 and BatchNorm. The larger map is average-pooled to the smaller first.

    When it helps: resnet32x4 -> resnet8x4 in the table of HobbitLong/RepDistiller, where it passes kd. Where it fails:
    all other pairs of that table, where it stays behind kd, and for resnet110 -> resnet20 and resnet32 and for
    vgg13 and ResNet50 -> MobileNetV2 behind no distillation. Teacher and student must be alike at that depth; else
    try another stage.

    Constants: weight 100 beside cross-entropy, in one training, is that of HobbitLong/RepDistiller and
    megvii-research/mdistiller; the paper trains the student's lower half on the hint first, then all of it with kd.
    Their map is hint_layer = 2, feat[2] in RepDistiller: the second of the maps that stages = "published" takes. That
    is stage = -2 in networks of three stages (ResNets, WRNs, ShuffleNets) and -3 in those of four (VGGs, ResNet50,
    MobileNetV2), as the pairs' recipes have it. The adapter is kdcam's choice. Theirs ends with a ReLU, which could
    not follow the negative values of maps of other families, and resizes within it: a 3 x 3 convolution of stride 2, a
    transposed one of 4 x 4, or a kernel as large as the difference.
    """

    name: Literal["fitnet"] = "fitnet"
    weight: float = Field(100.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    stage: int = Field(
        -2, le=-1, description="the map compared, of those that stages names; -1: the last of all"
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
        reason = why_too_few_maps(shapes, self.stages)
        if reason is not None or self.stage == -1:
            return reason
        both = (shapes.student, teacher_widths(shapes))
        fewest = min(len(all_sizes(widths, self.stages)) for widths in both)
        way_out = f"found stage = {self.stage}: set stage = {-fewest} or nearer to -1, the last map"
        return why_too_few_maps(shapes, self.stages, least=-self.stage, way_out=way_out)

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        student = all_sizes(shapes.student, self.stages)[self.stage]
        teacher = all_sizes(teacher_widths(shapes), self.stages)[self.stage]
        return Fitnet(student[0], teacher[0], stage=self.stage, stages=self.stages)


def fitnet(adapted_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean square of the difference of the student's adapted map and the teacher's, a scalar >= 0.

    Both are (N, C, H, W). Source: Romero et al. 2015 (arXiv 1412.6550), as a mean and without 1/2.
    """
    return F.mse_loss(wide(adapted_map), wide(teacher_map))


class Fitnet(nn.Module):
    """`fitnet` of the student's and the teacher's map at one depth, with an adapter of its own."""

    def __init__(
        self, student_channels: int, teacher_channels: int, *, stage: int, stages: Stages = "last-of-size"
    ) -> None:
        super().__init__()
        self.stage = stage
        self.stages = stages
        self.adapter = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, 1, bias=False),
            nn.BatchNorm2d(teacher_channels, track_running_stats=False),  # a loss is never evaluated
        )

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student_map = all_maps(step.student, self.stages)[self.stage]
        teacher_map = all_maps(teacher_of(step), self.stages)[self.stage].detach()
        student_map, teacher_map = pool_maps_to_smaller(student_map, teacher_map)
        return fitnet(self.adapter(student_map), teacher_map)


__all__ = ["Fitnet", "FitnetConfig", "fitnet"]
