"""Relational knowledge distillation (RKD): distances and angles among the batch's embeddings follow the teacher's."""

from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present, teacher_of
from kdcam.runtime.numerics import mean_where, wide

# Of the batch's largest distance; nearer embeddings count as one, for their direction is rounding.
_NEAREST = 1e-5


class RkdConfig(LossConfig):
    """Relational knowledge distillation, RKD (Park et al., CVPR 2019, arXiv 1904.05068): distances and angles among
    the batch's embeddings follow the teacher's.

    Idea: what matters is the figure that the images form, not where it lies. Distances in units of their mean, and
    angles, compare embeddings of any two widths, and nothing has to be learned.

    Equation: L = distance_weight * mean over i, j of huber(d_ij / mean d - d'_ij / mean d') + angle_weight * mean over
    i, j, k of huber(cos_ijk - cos'_ijk), with d_ij = |x_i - x_j|, cos_ijk the cosine of the angle at x_i between x_j
    and x_k, ' the teacher's, the mean of d over the pairs with d > 0, and huber(a) = a^2 / 2 where |a| < 1, else
    |a| - 1 / 2.

    When it helps: embeddings that are compared by distance (retrieval, the paper's metric learning). In the standard
    CIFAR-100 table (HobbitLong/RepDistiller) it is 0.1 to 1.8 points above a student without a teacher on 10 of 13
    pairs, and below it on resnet32x4 -> resnet8x4 and on both to mobilenetv2.

    Where it fails: the angles of a batch are N^3 numbers, six times over at the peak: 6 MB with 64 images a process,
    50 MB with 128, 390 MB with 256, 3 GB with 512; angle_weight = 0 leaves N^2. (The released codes make (N, N, E)
    besides; kdcam works from distances.) Distances in units of their mean say nothing of scale.

    Constants: distance_weight 25 and angle_weight 50 with weight 1 beside 1 of cross_entropy, and means over all pairs
    and triplets, degenerate ones included, are those of HobbitLong/RepDistiller (distiller_zoo/RKD.py); 25 and 50 are
    also the defaults of the authors' code for classification (lenscloth/RKD, run_distill_classification.py), which sets
    embeddings to length 1 first; RepDistiller does not, nor does kdcam. Images nearer than 1e-5 of the batch's largest
    distance count as the same one (kdcam's choice).
    """

    name: Literal["rkd"] = "rkd"
    distance_weight: float = Field(25.0, ge=0, allow_inf_nan=False, description="0: no distances")
    angle_weight: float = Field(50.0, ge=0, allow_inf_nan=False, description="0: no angles, which are N^3")

    needs: ClassVar[frozenset[str]] = frozenset({"teacher.embedding"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if self.distance_weight == self.angle_weight == 0:
            raise ValueError(
                "distance_weight = 0 and angle_weight = 0 leave nothing; leave the loss out instead"
            )
        return self

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Rkd(self.distance_weight, self.angle_weight)


def rkd_distance(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Return the mean Huber loss of the batch's distances in units of their mean, a scalar of 0 or more.

    Both are (N, E), of any widths. Source: Park et al. 2019 (arXiv 1904.05068).
    """
    return F.smooth_l1_loss(_relative(distances(student_embedding)), _relative(distances(teacher_embedding)))


def rkd_angle(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Return the mean Huber loss of the cosines of the batch's triplets, a scalar in [0, 3 / 2].

    Both are (N, E), of any widths; makes (N, N, N). Source: Park et al. 2019 (arXiv 1904.05068).
    """
    return F.smooth_l1_loss(
        cosines_at_vertices(distances(student_embedding)), cosines_at_vertices(distances(teacher_embedding))
    )


def distances(embedding: Tensor) -> Tensor:
    """Return the distances (N, N) of a batch's embeddings (N, E); 0, without gradient, of those that are one point."""
    points = wide(embedding)
    points = points - points.mean(0)  # so that little is lost in the difference below
    with torch.autocast(points.device.type, enabled=False):
        fixed = points.detach()
        exact = torch.cdist(fixed, fixed, compute_mode="donot_use_mm_for_euclid_dist")
        lengths = points.square().sum(1)
        squared = lengths[:, None] + lengths - 2 * (points @ points.T)
    apart = exact > _NEAREST * exact.max()
    # The value is cdist's, exactly 0 for equal points; the gradient is the products', for cdist's makes (N, N, E).
    moved = (squared - squared.detach()) / (2 * exact.masked_fill(~apart, 1.0))
    return torch.where(apart, exact + moved, 0.0)


def cosines_at_vertices(distance: Tensor) -> Tensor:
    """Return the cosines (i, j, k) of the angles at i between j and k, of distances (N, N); 0 where a side is 0."""
    apart = distance > 0
    inverse = distance.masked_fill(~apart, 1.0).reciprocal() * apart
    halves = distance.square() / 2
    between = halves[:, :, None] + halves[:, None, :] - halves
    return between * inverse[:, :, None] * inverse[:, None, :]


def _relative(distance: Tensor) -> Tensor:
    mean = mean_where(distance, distance > 0)
    return distance / torch.where(mean > 0, mean, 1.0)


class Rkd(nn.Module):
    """`rkd_distance` and `rkd_angle` of the embeddings of student and teacher."""

    def __init__(self, distance_weight: float, angle_weight: float) -> None:
        super().__init__()
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student = step.student.embedding
        teacher = present(teacher_of(step).embedding, "the teacher's embedding")
        loss = student.new_zeros((), dtype=torch.float32)
        if self.distance_weight > 0:
            loss = loss + self.distance_weight * rkd_distance(student, teacher)
        if self.angle_weight > 0:
            loss = loss + self.angle_weight * rkd_angle(student, teacher)
        return loss


__all__ = ["Rkd", "RkdConfig", "cosines_at_vertices", "distances", "rkd_angle", "rkd_distance"]
