"""A-Softmax (SphereFace): the label's angle to unit class weights counts several times, eased in by annealing."""

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


class ASoftmaxConfig(AnnealedMarginConfig):
    """A-Softmax (Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition", CVPR 2017, arXiv
    1704.08063): lsoftmax with class weights of length 1 and without biases.

    Idea: with unit weights the angle alone decides between classes, and for the label it counts several times.

    Equation: cross-entropy with |x| f as the label's logit and |x| cos theta_j as the others. f = (lambda cos theta_y
    + psi) / (1 + lambda); psi = (-1)^k cos(margin theta_y) - 2 k for theta_y in [k pi / margin, (k + 1) pi / margin];
    theta_j is the angle between embedding x and weight of class j. lambda = max(anneal_floor, anneal_base (1 +
    anneal_gamma it)^-anneal_power), and `it` counts the training batches that the loss has seen, the first as 1.

    When it helps: embeddings that are compared by angle (faces, few-shot).

    Where it fails: it is hard to train with the margin alone; the anneal_floor of 5 leaves the margin 1 part in 6.
    lambda is 893 at the first batch, 77 after 100, 8.3 after 1,000 and at its floor from batch 1,659 on: in a run of
    a few hundred batches the margin hardly counts, so choose a larger anneal_gamma there. Batches are counted as the
    loss sees them: with accumulate each part counts. It needs model.head = "unit-weight"; it stands in place of
    cross_entropy, not beside it.

    Constants: all as in the released training (wy1iu/sphereface, sphereface_model.prototxt, 28,000 batches). That
    layer rescales the gradient that reaches the embedding, and the weight's passes by the margin and the division by
    its length; here both are exact.
    """

    name: Literal["asoftmax"] = "asoftmax"
    anneal_gamma: AnnealGamma = 0.12
    anneal_power: AnnealPower = 1.0
    anneal_floor: AnnealFloor = 5.0

    needs: ClassVar[frozenset[str]] = frozenset({"unit_weight_head"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return self.annealed(asoftmax)


def asoftmax(student: Outputs, targets: Tensor, *, margin: int, annealing: Tensor | float) -> Tensor:
    """Return the mean loss of a unit-weight head's outputs, a scalar; ``targets`` (N,).

    ``margin`` is the angle's factor, ``annealing`` lambda: 0: the margin alone; large: plain cross-entropy. Source: Liu
    et al. 2017 (arXiv 1704.08063), equation 7.
    """
    angle = partial(annealed_angle, margin=margin, annealing=annealing)
    return margin_cross_entropy(student, targets, angle)


__all__ = ["ASoftmaxConfig", "asoftmax"]
