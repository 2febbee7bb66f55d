"""Inter-class angular loss: the classifier's directions of the classes are spread apart."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present
from kdcam.runtime.numerics import unit_rows


class IcalConfig(LossConfig):
    """Inter-class angular loss, ICAL (Hui et al., "Inter-Class Angular Loss for Convolutional Neural Networks", AAAI
    2019): the mean cosine between the classifier's rows.

    Idea: two classes are confused more, the smaller the angle between their rows of the classifier.

    Equation: L = 1 / K^2 * sum over all i, j of cos(w_i, w_j) = |sum_k w_k / |w_k||^2 / K^2, in [0, 1], the K ones of
    i = j included; it reads no image and no target.

    When it helps: the paper reports gains for several networks and sets. Where it fails: it is 0 as soon as the
    directions cancel out in their sum, and then does nothing more, even if two of them coincide (fical looks at those
    that are confused); random rows are there nearly: 1 / K on average, so that many classes leave it little to do.

    Constants: weight is the paper's lambda, 5; the released code (fpthink/ICAL) names 5 with augmentation and 10
    without, for PreResNet-110 on CIFAR-10, and has 0.1 as its argument's default. That code's classifier has no bias
    and rows that are set to length 1 in place before each step, outside the gradient; here the gradient passes through
    the norm, which is the same step in the direction of rows of length 1, and is smaller for longer rows.
    """

    name: Literal["ical"] = "ical"
    weight: float = Field(5.0, ge=0, allow_inf_nan=False, description="lambda, the factor of the term")

    needs: ClassVar[frozenset[str]] = frozenset({"classifier_weight"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Ical()


def ical(weight: Tensor) -> Tensor:
    """Return the mean cosine over all pairs of rows, a scalar in [0, 1]; ``weight`` (K, E).

    Source: Hui et al. 2019, by the sum of the directions: nothing of size K x K is made.
    """
    return unit_rows(weight).mean(0).square().sum()


class Ical(nn.Module):
    """`ical` of the student's classifier."""

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return ical(present(step.student.weight, "the classifier's weight"))


__all__ = ["Ical", "IcalConfig", "ical"]
