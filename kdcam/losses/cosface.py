"""CosFace, also called AM-Softmax: the label's cosine has to win by a margin."""

from functools import partial
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes
from kdcam.losses.shared.angular_margins import MarginLoss, margin_cross_entropy
from kdcam.models.classifier import Outputs


class CosFaceConfig(LossConfig):
    """CosFace (Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018, arXiv
    1801.09414), the same as AM-Softmax (Wang et al., "Additive Margin Softmax for Face Verification", 2018, arXiv
    1801.05599): the label's cosine counts as smaller than it is.

    Idea: the label has to win by a margin, so that classes are compact and lie apart by angle.

    Equation: L = -log(exp(s (cos_y - margin)) / (exp(s (cos_y - margin)) + sum over j != y of exp(s cos_j))), mean
    over the images, with cos_j the cosine between embedding and weight of class j and s the scale of the head.
    margin 0 is normface.

    When it helps: embeddings that are compared by angle (faces, few-shot); there is nothing to anneal.

    Where it fails: wrong labels, whose images are pushed hard; many classes in few dimensions, where weights cannot
    lie a margin apart; a small scale, see normface. It needs model.head = "cosine"; it stands in place of
    cross_entropy, not beside it.

    Constants: margin 0.35 is both papers'; the scale is model.scale, with AM-Softmax 30 (happynear/AMSoftmax), with
    CosFace 64, both for faces.
    """

    name: Literal["cosface"] = "cosface"
    margin: float = Field(0.35, ge=0, lt=2, description="taken from the label's cosine; 0: none")

    needs: ClassVar[frozenset[str]] = frozenset({"cosine_head"})
    trains_classifier: ClassVar[bool] = True

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return MarginLoss(partial(cosface, margin=self.margin))


def cosface_margin(cosines: Tensor, margin: float) -> Tensor:
    """Return cos(theta) - margin, of any shape."""
    return cosines - margin


def cosface(student: Outputs, targets: Tensor, *, margin: float) -> Tensor:
    """Return the mean loss of a cosine head's outputs, a scalar; ``targets`` (N,).

    Source: Wang et al. 2018 (arXiv 1801.09414), equation 4.
    """
    return margin_cross_entropy(student, targets, partial(cosface_margin, margin=margin))


__all__ = ["CosFaceConfig", "cosface", "cosface_margin"]
