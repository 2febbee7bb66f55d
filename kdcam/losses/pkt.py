"""Probabilistic knowledge transfer (PKT): each image's neighbours are as likely to the student as to the teacher."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present, teacher_of
from kdcam.runtime.numerics import unit_rows, wide

_EPS = 1e-7  # added to probabilities, as in passalis/probabilistic_kt


class PktConfig(LossConfig):
    """Probabilistic knowledge transfer, PKT (Passalis and Tefas, "Learning Deep Representations with Probabilistic
    Knowledge Transfer", ECCV 2018, arXiv 1803.10837): each image's neighbours are as likely to the student as to the
    teacher.

    Idea: cosines of embeddings, made into probabilities, say which images of a batch lie near each other. They do not
    depend on the width of the embeddings, so that nothing has to be learned to compare two networks.

    Equation: s_ij = (1 + cos(x_i, x_j)) / 2, p_ij = s_ij / sum_k s_ik, and L = 1 / N^2 * sum_ij p_ij
    log((p_ij + eps) / (q_ij + eps)), with p the teacher's and q the student's, eps = 1e-7.

    When it helps: cheap, without a parameter; in the standard CIFAR-100 table (HobbitLong/RepDistiller) it is within
    a point of kd on all 13 pairs, and above it on three.

    Where it fails: embeddings after a ReLU have cosines of 0 to 1, so that probabilities are close to even and the
    differences small: hence the large weight. The mean over N^2 numbers, where a KL divergence is a sum over j, shrinks
    with the batch: the value falls about as 1 / N^2, and the weight suits about 64 images a process.

    Constants: weight 30000 beside 1 of cross_entropy is HobbitLong/RepDistiller's (scripts/run_cifar_distill.sh). The
    mean over N^2, the images' likeness to themselves (counted) and eps are those of the authors' code
    (passalis/probabilistic_kt, nn/pkt.py), of RepDistiller's and of torchdistill's PKTLoss.
    """

    name: Literal["pkt"] = "pkt"
    weight: float = Field(30000.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")

    needs: ClassVar[frozenset[str]] = frozenset({"teacher.embedding"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Pkt()


def pkt(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Return the KL divergence of the batch's neighbour probabilities over N^2 (not N), a scalar of about 0 or more.

    Both are (N, E), of any widths. Source: Passalis and Tefas 2018 (arXiv 1803.10837), with the cosine kernel.
    """
    student, teacher = _probabilities(student_embedding), _probabilities(teacher_embedding)
    return (teacher * ((teacher + _EPS) / (student + _EPS)).log()).mean()


def _probabilities(embedding: Tensor) -> Tensor:
    directions = unit_rows(wide(embedding))
    with torch.autocast(directions.device.type, enabled=False):
        likeness = (1 + directions @ directions.T) / 2
    return likeness / likeness.sum(1, keepdim=True)


class Pkt(nn.Module):
    """`pkt` of the embeddings of student and teacher."""

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        teacher_embedding = present(teacher_of(step).embedding, "the teacher's embedding")
        return pkt(step.student.embedding, teacher_embedding)


__all__ = ["Pkt", "PktConfig", "pkt"]
