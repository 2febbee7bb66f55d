"""Class attention transfer: the student's coarse class activation maps of all classes follow the teacher's."""

from typing import ClassVar, Literal, Self

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.coarse_cams import coarse_student_cams, coarse_teacher_cams, smallest_side
from kdcam.runtime.numerics import unit_rows, wide


class CatKdConfig(LossConfig):
    """Class attention transfer (Guo et al., "Class Attention Transfer Based Knowledge Distillation", CVPR 2023, arXiv
    2304.12777): the class activation maps (CAMs) of all classes follow the teacher's, at a coarse resolution.

    Idea: what the teacher knows is where it sees each class. Pooled maps tell that, and small differences of position
    between two networks no longer count.

    Equation: L = 1 / (N K r^2) sum_n,k | u(A_student,nk) - u(A_teacher,nk) |^2, with A the r x r adaptive average
    pooling of the CAM of class k, r the resolution, and u(A) = A / |A| over the positions; without normalize u(A) = A.
    GzyAftermath/CAT-KD drops the teacher's biases and trains students without them; here each map has its class's
    bias, so that its mean is the logit where r divides the map's sides. The student's feature map is pooled before the
    classifier is applied: the same maps at a fraction of the work.

    When it helps: beside cross_entropy, teacher and student of one family; maps of the student become those of the
    teacher. No labels are read.

    Where it fails: both networks need an exact CAM of at least resolution x resolution and the same classes in the same
    order. The weight must be found for each pair: too large a one drowns cross_entropy. CAT-KD's README asks for a
    weighted loss of 1 to 50 after the first epoch.

    Constants: resolution 2, normalize and weight 400 are the defaults of GzyAftermath/CAT-KD, beside 1 of
    cross_entropy. Its weights by CIFAR-100 pair, with normalize = false: resnet56 -> resnet20 0.7,
    resnet110 -> resnet32 1.8, resnet32x4 -> resnet8x4 15, wrn_40_2 -> wrn_16_2 12, wrn_40_2 -> wrn_40_1 1.5,
    vgg13 -> vgg8 4.5; with normalize = true: resnet50 -> mobilenetv2 40, vgg13 -> mobilenetv2 15, and with
    resolution 4 wrn_40_2 -> shufflenetv1 80, resnet32x4 -> shufflenetv1 and shufflenetv2 600. ImageNet:
    resnet34 -> resnet18 0.5 (resolution 4, normalize = false), resnet50 -> MobileNet 10 (2, true).
    """

    name: Literal["cat_kd"] = "cat_kd"
    weight: float = Field(400.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    resolution: int = Field(2, ge=1, description="height and width of the pooled maps; 1: the logits alone")
    normalize: bool = Field(True, description="true: each map has length 1, so that its place counts alone")

    needs: ClassVar[frozenset[str]] = frozenset({"cam", "teacher.class_cams"})
    takes_one_place: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    @model_validator(mode="after")
    def _has_a_shape_to_match(self) -> Self:
        if self.normalize and self.resolution == 1:
            raise ValueError(
                "resolution = 1 with normalize = true leaves the sign of each logit, which has no gradient; "
                "set normalize = false or resolution = 2 or more"
            )
        return self

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can."""
        smallest = smallest_side(shapes)
        if smallest is not None and smallest[1] < self.resolution:
            name, side = smallest
            plain = " with normalize = false" if side == 1 else ""
            return (
                f"resolution = {self.resolution} is more than the {side} positions on the shorter side of the "
                f"{name}'s map; set resolution = {side}{plain} or a larger data.image_size"
            )
        return None

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return CatKd(self.resolution, normalize=self.normalize)


def cat_kd_loss(student_cams: Tensor, teacher_cams: Tensor, *, normalize: bool) -> Tensor:
    """Return the mean squared difference of all classes' maps, a scalar >= 0.

    Both are (N, K, r, r), pooled already. ``normalize``: each map is divided by its length first (a map of zeros
    stays), and the loss is at most 4 / r^2. Source: Guo et al. 2023 (arXiv 2304.12777).
    """
    student, teacher = wide(student_cams).flatten(2), wide(teacher_cams).flatten(2)
    if normalize:
        student = unit_rows(student.flatten(0, 1)).view_as(student)
        teacher = unit_rows(teacher.flatten(0, 1)).view_as(teacher)
    return F.mse_loss(student, teacher)


class CatKd(nn.Module):
    """`cat_kd_loss` of the student's and the teacher's class activation maps, pooled to the resolution."""

    def __init__(self, resolution: int, *, normalize: bool) -> None:
        super().__init__()
        self.resolution = resolution
        self.normalize = normalize

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student = coarse_student_cams(step, self.resolution)
        teacher = coarse_teacher_cams(step, self.resolution)
        return cat_kd_loss(student, teacher, normalize=self.normalize)


__all__ = ["CatKd", "CatKdConfig", "cat_kd_loss"]
