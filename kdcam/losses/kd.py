"""Knowledge distillation: the student's softened prediction follows the teacher's."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present, teacher_of
from kdcam.numerics import wide


class KdConfig(LossConfig):
    """Knowledge distillation (Hinton, Vinyals, Dean 2015, arXiv 1503.02531): the student's softened prediction follows
    the teacher's.

    Idea: the teacher's probabilities of the wrong classes carry what it knows about likeness.

    Equation: L = T^2 * mean_n KL( softmax(z_teacher / T) || softmax(z_student / T) ).

    When it helps: nearly always; it is the baseline that every other distillation loss must beat.

    Where it fails: teacher and student must have the same classes in the same order.

    Constants: temperature 4 and the weights 0.9 beside 0.1 of cross-entropy are those of the standard CIFAR-100
    protocol (HobbitLong/RepDistiller). The divergence is averaged over samples ("batchmean"), not over
    samples and classes.
    """

    name: Literal["kd"] = "kd"
    temperature: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="both logits are divided by it; 1: not softened"
    )

    trains_classifier: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Kd(self.temperature)


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Return T^2 times the mean over samples of KL(teacher || student) at temperature T, a scalar >= 0.

    Both logits are (N, K). Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    student = F.log_softmax(wide(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(wide(teacher_logits) / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


class Kd(nn.Module):
    """`kd_loss` of the student's and the teacher's logits."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        teacher_logits = present(teacher_of(step).logits, "the teacher's logits")
        return kd_loss(step.student.logits, teacher_logits, temperature=self.temperature)


__all__ = ["Kd", "KdConfig", "kd_loss"]
