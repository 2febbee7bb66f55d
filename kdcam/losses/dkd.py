"""Decoupled knowledge distillation: how sure the teacher is, and what it takes the wrong classes for, apart."""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.logits import Standardize, compared_logits
from kdcam.runtime.numerics import wide


class DkdConfig(LossConfig):
    """Decoupled knowledge distillation (Zhao et al., CVPR 2022, arXiv 2203.08679): kd in two parts, each with its own
    weight.

    Idea: kd weighs what the teacher knows of the wrong classes by how unsure it is of the label, so that its surest
    images teach least. Here that part has a weight of its own.

    Equation: L = T^2 * mean_n [ alpha KL( b_teacher || b_student ) + beta KL( q_teacher || q_student ) ], with
    p = softmax(z / T), b = (p_y, 1 - p_y) of the label y, and q the softmax of z / T over the other classes.
    kd is alpha = 1 and beta = 1 - p_teacher,y. 1 - p_y and q are worked out as log-softmaxes over the other classes,
    where megvii-research/mdistiller takes log of sums and lowers the label's logit by 1000: finite where that is not.

    When it helps: teachers that are sure of the training images, as on CIFAR-100; published 1 to 3 points above kd.

    Where it fails: teacher and student must have the same classes in the same order; labels only, no Mixup. beta has
    to suit the pair.

    Constants: alpha 1, beta 8, temperature 4, weight 1 beside 1 of cross-entropy, and warmup 1/12 (20 of 240 epochs)
    are mdistiller's. Its beta by CIFAR-100 pair: 2 for resnet56 -> resnet20 and resnet110 -> resnet32; 6 for
    wrn_40_2 -> wrn_16_2, wrn_40_2 -> wrn_40_1, vgg13 -> vgg8 and vgg13 -> mobilenetv2; 8 for the others
    (resnet32x4 -> resnet8x4, to shufflenetv1 and shufflenetv2, resnet50 -> mobilenetv2); ImageNet
    resnet34 -> resnet18: beta 0.5, temperature 1, warmup 1 of 100 epochs. Its warmup moves by whole epochs, this one
    by steps. With standardize (arXiv 2403.01427, see kd) sunshangquan/logit-standardization-KD has temperature 2 and
    alpha and beta times 9 (12 and 18 for some pairs), set by hand.
    """

    name: Literal["dkd"] = "dkd"
    warmup: float = Field(
        1 / 12,
        ge=0,
        le=1,
        description="fraction of the run, from start on, over which the weight grows from 0",
    )
    alpha: float = Field(1.0, ge=0, allow_inf_nan=False, description="weight of label against the rest")
    beta: float = Field(8.0, ge=0, allow_inf_nan=False, description="weight of the other classes")
    temperature: float = Field(
        4.0, gt=0, allow_inf_nan=False, description="both logits are divided by it; 1: not softened"
    )
    standardize: Standardize = False

    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Dkd(self.alpha, self.beta, self.temperature, standardized=self.standardize)


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    alpha: float,
    beta: float,
    temperature: float,
) -> Tensor:
    """Return the weighted sum of target-class and other-class distillation at a temperature, a scalar >= 0.

    Both logits are (N, K) with K >= 2, ``labels`` (N,) int64. Source: Zhao et al. 2022 (arXiv 2203.08679).
    """
    student, student_others = _parts(wide(student_logits) / temperature, labels)
    teacher, teacher_others = _parts(wide(teacher_logits) / temperature, labels)
    target_class = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    other_classes = F.kl_div(student_others, teacher_others, reduction="batchmean", log_target=True)
    return (alpha * target_class + beta * other_classes) * temperature**2


def _parts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of label and rest (N, 2), and of each class among the rest (N, K), 0 at the label.

    The 0 is no log-probability: it stands on both sides of a divergence, where it counts nothing.
    """
    column = labels[:, None]
    of_others = logits.scatter(1, column, -torch.inf)
    binary = torch.cat([logits.gather(1, column), of_others.logsumexp(1, keepdim=True)], dim=1)
    return binary.log_softmax(1), of_others.log_softmax(1).scatter(1, column, 0.0)


class Dkd(nn.Module):
    """`dkd_loss` of the student's and the teacher's logits."""

    def __init__(self, alpha: float, beta: float, temperature: float, *, standardized: bool) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.standardized = standardized

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student, teacher = compared_logits(step, standardized=self.standardized)
        return dkd_loss(
            student,
            teacher,
            step.targets,
            alpha=self.alpha,
            beta=self.beta,
            temperature=self.temperature,
        )


__all__ = ["Dkd", "DkdConfig", "dkd_loss"]
