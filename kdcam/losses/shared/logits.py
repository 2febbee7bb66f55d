"""Logits as losses read them: standardised, to compare two networks, or as the label's log-likelihood."""

from typing import Annotated, NamedTuple

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

    Teacher and student are so compared by the shape of their logits, not by their scale. A row without any deviation
    gives zeros, and no gradient instead of one of 1e7 (kdcam's choice).

    Source: Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024 (arXiv 2403.01427); the deviation
    (with n - 1) and the constant follow sunshangquan/logit-standardization-KD.
    """
    logits = wide(logits)
    deviation = logits.std(dim=1, keepdim=True)
    centred = logits - logits.mean(dim=1, keepdim=True)
    return torch.where(deviation > _EPS, centred / (deviation + _EPS), 0.0)


def compared_logits(step: Step, *, standardized: bool) -> tuple[Tensor, Tensor]:
    """Return the student's and the teacher's logits of a step, (N, K) both, as they are or standardised."""
    student, teacher = step.student.logits, present(teacher_of(step).logits, "the teacher's logits")
    return (standardize(student), standardize(teacher)) if standardized else (student, teacher)


class LabelLogLikelihoods(NamedTuple):
    """Log-likelihoods of the classes that an image's target names, and how much each counts."""

    values: Tensor  # (N, 1) of the label; (N, K) of every class under mixed rows
    shares: Tensor  # the same shape; rows sum to 1


def label_log_likelihoods(logits: Tensor, targets: Tensor) -> LabelLogLikelihoods:
    """Return log softmax(logits) where the targets look: ``logits`` (N, K), ``targets`` (N,) labels or (N, K) rows."""
    every = wide(logits).log_softmax(1)
    if targets.ndim == 1:
        values = every.gather(1, targets[:, None])
        return LabelLogLikelihoods(values, values.new_ones(()).expand_as(values))
    return LabelLogLikelihoods(every, targets.to(every.dtype))


__all__ = [
    "LabelLogLikelihoods",
    "Standardize",
    "compared_logits",
    "label_log_likelihoods",
    "standardize",
]
