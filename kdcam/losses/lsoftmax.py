"""L-Softmax: the label's angle counts several times, eased in by annealing."""

from functools import partial
from typing import ClassVar, Literal

from torch import Tensor, nn

from kdcam.losses.loss import Shapes
from kdcam.losses.shared.angular_margins import (
    AnnealedMarginConfig,
    AnnealFloor,
    AnnealGamma,
    AnnealPower,
    annealed_angle,
    margin_cross_entropy,
)
from kdcam.models.classifier import Outputs


class LSoftmaxConfig(AnnealedMarginConfig):
    """Large-margin softmax (Liu et al., "Large-Margin Softmax Loss for Convolutional Neural Networks", ICML 2016,
    arXiv 1612.02295): the angle between embedding and class weight counts several times, for the label.

    Idea: the label has to win although its angle is multiplied, so that classes are compact and lie apart.

    Equation: cross-entropy with |w_y| |x| f + bias_y as the label's logit, the others as they are. f = (lambda cos
    theta + psi) / (1 + lambda); psi = (-1)^k cos(margin theta) - 2 k for theta in [k pi / margin, (k + 1) pi /
    margin]; theta is the angle between embedding x and w_y. lambda = max(anneal_floor, anneal_base (1 + anneal_gamma
    it)^-anneal_power), and `it` counts the training batches that the loss has seen, the first as 1.

    When it helps: the paper reports gains on MNIST, CIFAR and faces; any head with a class weight will do.

    Where it fails: it diverges where lambda falls too fast, the usual complaint (an anneal_floor of 5 to 10 is said
    to help on hard sets). The defaults are for a run of 30,000 batches: lambda is 421 after 1,000 batches (the margin
    has 1 part in 422), 19 after 4,800, 0.4 after 10,000. A short run never meets the margin: multiply anneal_gamma by
    30,000 / the run's batches. Batches are counted as the loss sees them: with accumulate each part counts. It stands
    in place of cross_entropy, not beside it.

    Constants: all as in the released MNIST example (wy1iu/LargeMargin_Softmax_Loss, myexamples/mnist). Its CIFAR-10
    examples have margin 2, anneal_gamma 2e-5 (augmented: 1e-5) and anneal_power 45; the author says that the paper's
    CIFAR numbers need margin 4. The released network has no bias; kdcam leaves it outside the angle.
    """

    name: Literal["lsoftmax"] = "lsoftmax"
    anneal_gamma: AnnealGamma = 2.5e-5
    anneal_power: AnnealPower = 35.0
    anneal_floor: AnnealFloor = 0.0

    needs: ClassVar[frozenset[str]] = frozenset({"classifier_weight"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return self.annealed(lsoftmax)


def lsoftmax(student: Outputs, targets: Tensor, *, margin: int, annealing: Tensor | float) -> Tensor:
    """Return the mean loss of a linear head's outputs, a scalar; ``targets`` (N,).

    ``margin`` is the angle's factor, ``annealing`` lambda: 0: the margin alone; large: plain cross-entropy. Source: Liu
    et al. 2016 (arXiv 1612.02295), equation 4.
    """
    angle = partial(annealed_angle, margin=margin, annealing=annealing)
    return margin_cross_entropy(student, targets, angle)


__all__ = ["LSoftmaxConfig", "lsoftmax"]
