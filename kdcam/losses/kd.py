"""Knowledge distillation: the student's softened prediction follows the teacher's."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.logits import Standardize, compared_logits
from kdcam.runtime.numerics import wide


class KdConfig(LossConfig):
    """Knowledge distillation (Hinton, Vinyals, Dean 2015, arXiv 1503.02531): the student's softened prediction follows
    the teacher's.

    Idea: the teacher's probabilities of the wrong classes carry what it knows about likeness.

    Equation: L = T^2 * mean_n KL( softmax(z_teacher / T) || softmax(z_student / T) ). With standardize = true z is
    (z - mean) / (deviation + 1e-7) of each image's logits (Sun et al., "Logit Standardization in Knowledge
    Distillation", CVPR 2024, arXiv 2403.01427): a small student need not reach the teacher's scale.

    When it helps: nearly always; it is the baseline that every other distillation loss must beat. standardize, where
    the teacher's logits are much larger than the student can make its own.

    Where it fails: teacher and student must have the same classes in the same order. standardize wants a temperature
    and a weight of its own.

    Constants: temperature 4 and the weights 0.9 beside 0.1 of cross-entropy are those of the standard CIFAR-100
    protocol (HobbitLong/RepDistiller). The divergence is averaged over samples ("batchmean"), not over
    samples and classes. With standardize: temperature 2 and weight 9 beside 0.1 of cross-entropy
    (sunshangquan/logit-standardization-KD), set by hand; that repository's logs have temperature 3 for vgg13 -> vgg8,
    resnet32x4 -> wrn_16_2 and wrn_40_2, and to mobilenetv2 from wrn_40_2, vgg13 and resnet50 (the last with weight 1).
    """

    name: Literal["kd"] = "kd"
    temperature: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="both logits are divided by it; 1: not softened"
    )
    standardize: Standardize = False

    trains_classifier: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Kd(self.temperature, standardized=self.standardize)


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """Return T^2 times the mean over samples of KL(teacher || student) at temperature T, a scalar >= 0.

    Both logits are (N, K). Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    student = F.log_softmax(wide(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(wide(teacher_logits) / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


class Kd(nn.Module):
    """`kd_loss` of the student's and the teacher's logits."""

    def __init__(self, temperature: float, *, standardized: bool) -> None:
        super().__init__()
        self.temperature = temperature
        self.standardized = standardized

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student, teacher = compared_logits(step, standardized=self.standardized)
        return kd_loss(student, teacher, temperature=self.temperature)


__all__ = ["Kd", "KdConfig", "kd_loss"]
