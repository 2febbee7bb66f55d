"""Focal inter-class angular loss: the classifier's directions of classes that are confused are spread apart."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present
from kdcam.runtime.distributed import sum_over_processes
from kdcam.runtime.numerics import unit_rows

MOST_CLASSES = 4096  # 64 MiB of counts, and a product of that size each step; kdcam's choice

_FORGOTTEN = 1e-30  # images of a class below which its rates fade to 0


class FicalConfig(LossConfig):
    """Focal inter-class angular loss, FICAL (Wei et al., "FICAL: Focal Inter-Class Angular Loss for Image
    Classification", VCIP 2019): as ical, each pair of classes weighed by how often the first is taken for the second.

    Idea: only classes that are confused need a wider angle between them.

    Equation: L = 1 / K * sum over i and j != i of r_ij cos(w_i, w_j), in [-1, 1], with w the classifier's rows and r_ij
    the share of images of class i whose largest logit is j. After each step's forward pass counts = confusion_momentum
    * counts + those of this batch over all processes, outside the gradient, and r_ij = counts_ij / sum_j counts_ij; so
    the rates include the batch. A class without an image yet has rates 0.

    When it helps: a few pairs of classes that look alike (the paper's claim). Where it fails: nothing is left of it
    once the training images are classified right; early in a run it follows the noise of the first batches. It keeps
    and works with K x K numbers, hence 4,096 classes at most.

    Constants: only the paper's abstract is known to us ("confusion rate-weighted cosine distance", "dynamically
    evaluated during each iteration"), and no code was released: the equation, the running counts, the mean over the
    classes (where a sum would make a weight depend on K), weight 1 and confusion_momentum 0.99, a memory of about 100
    steps, are kdcam's choice.
    """

    name: Literal["fical"] = "fical"
    weight: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum; 1 is kdcam's choice"
    )
    confusion_momentum: float = Field(
        0.99, ge=0, lt=1, description="memory of 1 / (1 - it) steps; 0: this batch alone"
    )

    needs: ClassVar[frozenset[str]] = frozenset({"classifier_weight"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels"})

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can."""
        classes = shapes.num_classes
        if classes <= MOST_CLASSES:
            return None
        return (
            f"keeps {classes:,} x {classes:,} numbers for as many classes, and {MOST_CLASSES:,} is the most; "
            "take ical"
        )

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        return Fical(RunningConfusion(shapes.num_classes, momentum=self.confusion_momentum))


def fical(weight: Tensor, rates: Tensor) -> Tensor:
    """Return the mean over classes of their cosines with others, each times its rate; a scalar in [-1, 1].

    ``weight`` is (K, E); ``rates`` (K, K), how often class i is taken for j, have no gradient and rows that sum to 1 at
    most; the diagonal does not count.
    """
    directions = unit_rows(weight)
    with torch.autocast(weight.device.type, enabled=False):
        wrong = rates.to(directions.dtype)
        wrong = wrong - torch.diag(wrong.diagonal())
        return (directions * (wrong @ directions)).sum() / len(directions)


def confusion_rates(counts: Tensor) -> Tensor:
    """Return the share of each class's images that is taken for each class: (K, K) from counts; 0 without images."""
    return counts / counts.sum(1, keepdim=True).clamp(min=_FORGOTTEN)


class RunningConfusion(nn.Module):
    """Fading counts of which class is taken for which, the same on every process."""

    counts: Tensor

    def __init__(self, num_classes: int, *, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("counts", torch.zeros(num_classes, num_classes))

    @torch.no_grad()
    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the rates (K, K) after a batch's logits (N, K) and labels (N,) are counted."""
        ones = self.counts.new_ones(len(targets))
        cells = targets * len(self.counts) + logits.argmax(1)
        # Whole numbers: their sum is exact in any order.
        (batch,) = sum_over_processes(torch.zeros_like(self.counts).view(-1).index_add(0, cells, ones))
        # In place: compiled steps must find the same tensor.
        self.counts.mul_(self.momentum).add_(batch.view_as(self.counts))
        return confusion_rates(self.counts)


class Fical(nn.Module):
    """`fical` of the student's classifier, with running confusion rates of its own."""

    def __init__(self, confusion: RunningConfusion) -> None:
        super().__init__()
        self.confusion = confusion

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step, after the confusion has followed the batch."""
        weight = present(step.student.weight, "the classifier's weight")
        return fical(weight, self.confusion(step.student.logits.detach(), step.targets))


__all__ = ["Fical", "FicalConfig", "RunningConfusion", "confusion_rates", "fical"]
