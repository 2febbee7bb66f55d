"""NormFace: cross-entropy of scaled cosines, without a margin."""

from typing import ClassVar, Literal

from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes
from kdcam.losses.shared.angular_margins import MarginLoss, margin_cross_entropy
from kdcam.models.classifier import Outputs


class NormFaceConfig(LossConfig):
    """NormFace (Wang et al., "NormFace: L2 Hypersphere Embedding for Face Verification", ACM MM 2017, arXiv
    1704.06369): cross-entropy of the cosines between embedding and class weights, times a scale.

    Idea: faces are compared by the angle of their embeddings, so lengths should not count in training either.

    Equation: L = -log(exp(s cos_y) / sum_j exp(s cos_j)), mean over the images, with cos_j the cosine between
    embedding and weight of class j and s the scale of the head. The margin losses cosface and arcface are this one
    with another cos_y.

    When it helps: embeddings that are compared by angle (faces, few-shot), and as the margin losses' control.

    Where it fails: a small scale. Cosines end at 1, so with K classes the loss cannot fall below log(1 + (K - 1)
    exp(-s K / (K - 1))), as the paper shows: 1.38 for s = 1 and K = 10, 3.61 for s = 1 and K = 100, where every image
    keeps pulling; s = 16 and K = 100 end at 1e-5. It needs model.head = "cosine"; it stands in place of
    cross_entropy, not beside it.

    Constants: none of its own. The paper learns the scale; kdcam's is model.scale, and fixed (kdcam's choice).
    """

    name: Literal["normface"] = "normface"

    needs: ClassVar[frozenset[str]] = frozenset({"cosine_head"})
    trains_classifier: ClassVar[bool] = True

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return MarginLoss(normface)


def normface(student: Outputs, targets: Tensor) -> Tensor:
    """Return the mean loss of a cosine head's outputs, a scalar; ``targets`` (N,).

    Source: Wang et al. 2017 (arXiv 1704.06369).
    """
    return margin_cross_entropy(student, targets, lambda cosines: cosines)


__all__ = ["NormFaceConfig", "normface"]
