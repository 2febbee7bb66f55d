"""Logit standardisation: teacher and student are compared by the shape of their logits, not by their scale.

Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024 (arXiv 2403.01427); the deviation
(with n - 1) and the constant follow sunshangquan/logit-standardization-KD.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdcam.losses.loss import Step, present, teacher_of
from kdcam.runtime.numerics import wide

_EPS = 1e-7

Standardize = Annotated[
    bool,
    Field(
        description="true: each image's logits are brought to mean 0 and deviation 1 before the temperature"
    ),
]


def standardize(logits: Tensor) -> Tensor:
    """Return logits (N, K) with mean 0 and standard deviation 1 in each row, float32 (float64 stays).

    A row without any deviation gives zeros, and no gradient instead of one of 1e7 (kdcam's choice).
    """
    logits = wide(logits)
    deviation = logits.std(dim=1, keepdim=True)
    centred = logits - logits.mean(dim=1, keepdim=True)
    return torch.where(deviation > _EPS, centred / (deviation + _EPS), 0.0)


def compared_logits(step: Step, *, standardized: bool) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's logits of a step, (N, K) both, as they are or standardised."""
    student, teacher = step.student.logits, present(teacher_of(step).logits, "the teacher's logits")
    return (standardize(student), standardize(teacher)) if standardized else (student, teacher)


__all__ = ["Standardize", "compared_logits", "standardize"]
