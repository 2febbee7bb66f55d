"""Correlation congruence: relations between the images of a batch are the same to student and teacher."""

import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present, teacher_of
from kdcam.runtime.numerics import unit_rows, wide

CongruenceForm = Literal["neighbours", "kernel"]

_USUAL_GAMMA = 0.4
_USUAL_ORDER = 2


class CorrelationCongruenceConfig(LossConfig):
    """Correlation congruence, CC or CCKD (Peng et al., "Correlation Congruence for Knowledge Distillation", ICCV 2019,
    arXiv 1904.01802): relations between the images of a batch are the same to student and teacher.

    Idea: not only each image's embedding, but how it stands to other images is handed on. Both embeddings pass a linear
    layer to a common width first; both layers are learned with the student, and the teacher has no gradient.

    Equation: with s and t the embedded student and teacher, form "neighbours": L = 1 / (N - 1) * sum over i of
    sum_e |s_ie - t_ie| |s_(i+1)e - t_(i+1)e|. "kernel": L = 1 / N^2 * | K(s) - K(t) |_F^2, with K_ij = exp(-2 gamma) *
    sum over p = 0 .. order of (2 gamma)^p / p! * (x_i . x_j)^p of the embeddings at length 1, the Taylor polynomial of
    exp(-gamma |x_i - x_j|^2).

    "kernel" is the paper's form (a Gaussian kernel by Taylor expansion). "neighbours" is the code that its author sent
    to HobbitLong/RepDistiller (distiller_zoo/CC.py), with which the numbers of the standard CIFAR-100 table were made:
    it compares images with no other than the next of the batch, and is the default for these numbers' sake.

    When it helps: beside kd, as in the paper. Alone, in the standard table, it is 0.2 to 0.9 points above a student
    without a teacher on 11 of 13 pairs.

    Where it fails: both layers may agree by shrinking, which costs nothing under "neighbours", or by mapping all images
    to one point: watch the term, which should not fall to 0 within an epoch. RepDistiller decays the layers' weights,
    kdcam those of no loss.

    Constants: weight 0.02 beside 1 of cross_entropy and 128 numbers are RepDistiller's (scripts/run_cifar_distill.sh,
    --feat_dim). gamma 0.4 and order 2 are those of torchdistill's CCKDLoss, in its example; that loss takes the length
    of K(s) - K(t) where the paper squares it, and does not set embeddings to length 1. The paper's weight for
    "kernel" is not known to us: 0.02 is of "neighbours".
    """

    name: Literal["correlation_congruence"] = "correlation_congruence"
    weight: float = Field(0.02, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    embedding_width: int = Field(128, ge=1, description="numbers that both embeddings are mapped to")
    form: CongruenceForm = Field(
        "neighbours", description="what is compared: products of neighbours, or kernels of all"
    )
    gamma: float = Field(
        _USUAL_GAMMA, gt=0, allow_inf_nan=False, description="1 / squared width of the kernel"
    )
    order: int = Field(_USUAL_ORDER, ge=1, le=8, description="highest power of the kernel's polynomial")

    needs: ClassVar[frozenset[str]] = frozenset({"teacher.embedding"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.form == "neighbours" and (self.gamma, self.order) != (_USUAL_GAMMA, _USUAL_ORDER):
            raise ValueError('gamma and order are of form = "kernel"; leave them out, or set that form')
        return self

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        assert shapes.teacher is not None
        return CorrelationCongruence(self, shapes.student.embedding, shapes.teacher.embedding)


def neighbour_congruence(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over neighbours in the batch of the product of their differences, a scalar of 0 or more.

    Both are (N, E) of the same width; 0 of a single image. Source: HobbitLong/RepDistiller, distiller_zoo/CC.py.
    """
    apart = (wide(student) - wide(teacher)).abs()
    return (apart[:-1] * apart[1:]).sum() / max(len(apart) - 1, 1)


def kernel_congruence(student: Tensor, teacher: Tensor, *, gamma: float, order: int) -> Tensor:
    """Return the mean squared difference of the batch's kernels, a scalar of 0 or more.

    Both are (N, E), of any widths; only their directions count. Source: Peng et al. 2019 (arXiv 1904.01802).
    """
    apart = _kernel(student, gamma=gamma, order=order) - _kernel(teacher, gamma=gamma, order=order)
    return apart.square().mean()


def _kernel(embedding: Tensor, *, gamma: float, order: int) -> Tensor:
    directions = unit_rows(embedding)
    with torch.autocast(directions.device.type, enabled=False):
        cosines = directions @ directions.T
    powers = [(2 * gamma) ** power / math.factorial(power) * cosines**power for power in range(order + 1)]
    return math.exp(-2 * gamma) * torch.stack(powers).sum(0)


class CorrelationCongruence(nn.Module):
    """`neighbour_congruence` or `kernel_congruence` of linear embeddings of student and teacher."""

    def __init__(self, config: CorrelationCongruenceConfig, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.config = config
        self.student_layer = nn.Linear(student_width, config.embedding_width)
        self.teacher_layer = nn.Linear(teacher_width, config.embedding_width)

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        teacher_embedding = present(teacher_of(step).embedding, "the teacher's embedding")
        with torch.autocast(teacher_embedding.device.type, enabled=False):
            student = self.student_layer(wide(step.student.embedding))
            teacher = self.teacher_layer(wide(teacher_embedding))
        if self.config.form == "neighbours":
            return neighbour_congruence(student, teacher)
        return kernel_congruence(student, teacher, gamma=self.config.gamma, order=self.config.order)


__all__ = [
    "CorrelationCongruence",
    "CorrelationCongruenceConfig",
    "kernel_congruence",
    "neighbour_congruence",
]
