"""DIST: the student's predictions correlate with the teacher's, within each image and within each class."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.logits import compared_logits
from kdcam.runtime.numerics import wide

_EPS = 1e-8
_FLAT = 1e-6  # float32 cannot tell values whose deviation is below this share of their size


class DistConfig(LossConfig):
    """DIST (Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, arXiv 2205.10536):
    predictions correlate with the teacher's, instead of being equal to them.

    Idea: a strong teacher's probabilities are out of a small student's reach, but their order and proportions are not.

    Equation: L = T^2 [ beta mean_n (1 - r(Y_n:, Y'_n:)) + gamma mean_k (1 - r(Y_:k, Y'_:k)) ], with Y and Y' the
    (N, K) softmax(z / T) of student and teacher, and r Pearson's correlation: over the classes of an image (the paper's
    inter-class part) and over the images of a batch (intra-class). T^2 is in hunto/image_classification_sota and
    torchdistill, not in the paper's listing; at T = 1 they are one. torchdistill is followed in what keeps the division
    from 0, too: each length counts as 1e-8 at least. The authors (hunto/DIST_KD, commit 2418f18,
    segmentation/losses/dist_kd.py) add 1e-8 to the product of both lengths, which lowers the correlation where that
    product is not far above: in a class that no image of the batch makes likely, such as by half where all its
    probabilities differ by some 1e-4 / sqrt(N).
    A row or column that is constant has correlation 0 and gives no gradient (kdcam's choice).

    When it helps: teachers that are much larger than the student, or trained with stronger augmentation.

    Where it fails: teacher and student must have the same classes in the same order. With several processes the
    intra-class part sees the images of each on its own.

    Constants: beta 1, gamma 1 and T 1 are those of the released code, weight 2 beside 1 of cross-entropy that of
    open-mmlab/mmrazor's ImageNet recipe (resnet34 -> resnet18). The settings of the paper's CIFAR-100 table could not
    be confirmed; 4 is the other temperature in common use.
    """

    name: Literal["dist"] = "dist"
    weight: float = Field(2.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    beta: float = Field(1.0, ge=0, allow_inf_nan=False, description="weight of the correlation in each image")
    gamma: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="weight of the correlation in each class"
    )
    temperature: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="both logits are divided by it; 1: not softened"
    )

    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Dist(self.beta, self.gamma, self.temperature)


def dist_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, beta: float, gamma: float, temperature: float
) -> Tensor:
    """Return how far predictions are from correlation 1, a scalar from 0 to 2 T^2 (beta + gamma).

    Both logits are (N, K). Source: Huang et al. 2022 (arXiv 2205.10536), times T^2.
    """
    student = (wide(student_logits) / temperature).softmax(1)
    teacher = (wide(teacher_logits) / temperature).softmax(1)
    in_images = 1 - correlation(student, teacher, dim=1).mean()
    in_classes = 1 - correlation(student, teacher, dim=0).mean()
    return (beta * in_images + gamma * in_classes) * temperature**2


def correlation(first: Tensor, second: Tensor, *, dim: int) -> Tensor:
    """Return Pearson's correlation of equal-shaped tensors along a dimension, in [-1, 1]; 0 where one is constant."""
    return F.cosine_similarity(_centred(first, dim), _centred(second, dim), dim=dim, eps=_EPS)


def _centred(values: Tensor, dim: int) -> Tensor:
    centred = values - values.mean(dim, keepdim=True)
    size = torch.linalg.vector_norm(values.detach(), dim=dim, keepdim=True)
    deviation = torch.linalg.vector_norm(centred.detach(), dim=dim, keepdim=True)
    # What is left of a constant is rounding, and its direction would have a gradient of 1e8.
    return torch.where(deviation > _FLAT * size, centred, 0.0)


class Dist(nn.Module):
    """`dist_loss` of the student's and the teacher's logits."""

    def __init__(self, beta: float, gamma: float, temperature: float) -> None:
        super().__init__()
        self.beta = beta
        self.gamma = gamma
        self.temperature = temperature

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student, teacher = compared_logits(step, standardized=False)
        return dist_loss(student, teacher, beta=self.beta, gamma=self.gamma, temperature=self.temperature)


__all__ = ["Dist", "DistConfig", "correlation", "dist_loss"]
