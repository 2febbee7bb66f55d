"""Similarity-preserving distillation: images that are alike to the teacher are alike to the student."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, teacher_of
from kdcam.losses.shared.stages import Stages, all_maps, needs_of_stages, why_too_few_maps
from kdcam.runtime.numerics import unit_rows, wide


class SimilarityPreservingConfig(LossConfig):
    """Similarity-preserving distillation (Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019,
    arXiv 1907.09682): the batch's similarities follow the teacher's.

    Idea: which images of a batch excite the network alike says what it takes for the same. Similarities are numbers
    between images, so the widths and the map sizes of teacher and student need not match and nothing is learned.

    Equation: L = 1 / N^2 * | G'_student - G'_teacher |_F^2, with G = Q Q^T, Q the last feature maps as (N, C H W) rows,
    and ' each row of G divided by its length. It lies in [0, 4 / N]. stages = "published" takes the last of
    RepDistiller's maps instead (feat[-2] there): its term on the pairs of its table.

    When it helps: networks of different kinds. In the standard CIFAR-100 table (HobbitLong/RepDistiller) it is above kd
    on resnet50 -> mobilenetv2 (by 0.7 points) and resnet32x4 -> shufflenetv2 (0.1), and below it on the other pairs.

    Where it fails: it sees nothing but pairs within a batch; as rows have length 1, the weight means less the larger
    the batch is (4 / N at most), so that it suits about 64 images a process. Maps after a ReLU have positive entries
    alone, so that rows are close to even and the differences small: hence the large weight.

    Constants: weight 3000 beside 1 of cross_entropy, on one map alone, are HobbitLong/RepDistiller's
    (scripts/run_cifar_distill.sh), and its distiller_zoo/SP.py is this equation. Its map is not the last feature map
    where another layer follows: in WRNs the sum before norm and ReLU, in MobileNetV2 and ShuffleNetV2 the map before
    the last convolution. torchdistill's SPKDLoss (1.1.5)
    divides rows by their sums instead (it hands normalize a 1 as the norm's order), which makes the value far smaller.
    """

    name: Literal["similarity_preserving"] = "similarity_preserving"
    weight: float = Field(3000.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    stages: Stages = "last-of-size"

    needs: ClassVar[frozenset[str]] = frozenset({"feature_map", "teacher.feature_map"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})
    takes_one_place: ClassVar[bool] = True

    def needed(self) -> frozenset[str]:
        """Return what must exist with these settings: the map that ``stages`` names."""
        return needs_of_stages(self.stages, last_of_size=self.needs)

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can."""
        return why_too_few_maps(shapes, self.stages)

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return SimilarityPreserving(self.stages)


def similarity_preserving(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean squared difference of the row-normalised similarities, a scalar in [0, 4 / N].

    Both are (N, ...), of any sizes but N. Source: Tung and Mori 2019 (arXiv 1907.09682).
    """
    return (_similarities(student_map) - _similarities(teacher_map)).square().mean()


def _similarities(feature_map: Tensor) -> Tensor:
    rows = wide(feature_map).flatten(1)
    with torch.autocast(rows.device.type, enabled=False):
        return unit_rows(rows @ rows.T)


class SimilarityPreserving(nn.Module):
    """`similarity_preserving` of the last maps of student and teacher."""

    def __init__(self, stages: Stages = "last-of-size") -> None:
        super().__init__()
        self.stages = stages

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student_map = all_maps(step.student, self.stages)[-1]
        teacher_map = all_maps(teacher_of(step), self.stages)[-1].detach()
        return similarity_preserving(student_map, teacher_map)


__all__ = ["SimilarityPreserving", "SimilarityPreservingConfig", "similarity_preserving"]
