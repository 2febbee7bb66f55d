"""ArcFace: the label's angle has to win by a margin."""

import math
from functools import partial
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes
from kdcam.losses.shared.angular_margins import MarginLoss, margin_cross_entropy
from kdcam.models.classifier import Outputs


class ArcFaceConfig(LossConfig):
    """ArcFace (Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019, arXiv
    1801.07698): the angle between embedding and class weight counts as larger than it is, for the label.

    Idea: the label has to win by a margin that is the same arc everywhere on the sphere.

    Equation: L = -log(exp(s a) / (exp(s a) + sum over j != y of exp(s cos theta_j))), mean over the images, with a =
    cos(theta_y + margin) up to theta_y = pi - margin and cos(theta_y) - margin sin(margin) beyond, where the first
    would rise again; theta_j is the angle between embedding and weight of class j, s the scale of the head. margin 0
    is normface.

    When it helps: embeddings that are compared by angle (faces, few-shot).

    Where it fails: wrong labels, whose images are pushed hard; a small scale, see normface. The published scale is
    for thousands of identities and may be too large for few classes. At theta_y = pi - margin the label's logit drops
    by s (cos(margin) + margin sin(margin) - 1), 0.117 s by default. It needs model.head = "cosine"; it stands in
    place of cross_entropy, not beside it.

    Constants: margin 0.5, in radians (28.6 degrees), is the paper's; its scale is 64, kdcam's is model.scale. The
    continuation is that of pytorch-metric-learning and ronghuaiyang/arcface-pytorch; deepinsight/insightface passes the
    gradient straight through the margin, where here it is exact. Margins over pi / 2 are refused, kdcam's choice: from
    2.34 on the continuation would lie higher than what it continues.
    """

    name: Literal["arcface"] = "arcface"
    margin: float = Field(
        0.5, ge=0, le=math.pi / 2, description="radians added to the label's angle; 0: none"
    )

    needs: ClassVar[frozenset[str]] = frozenset({"cosine_head"})
    trains_classifier: ClassVar[bool] = True

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return MarginLoss(partial(arcface, margin=self.margin))


def arcface_margin(cosines: Tensor, margin: float) -> Tensor:
    """Return cos(theta + margin) of cos(theta), and past theta = pi - margin cos(theta) - margin sin(margin).

    ``cosines`` have any shape; ``margin`` is in radians, in [0, pi / 2]. Gradients are finite at 0 and pi too.
    """
    # The product is 0 or some 1e-7 (float32) and more: the floor changes no value, it only spares the root's
    # slope at 0.
    squares = (1 - cosines) * (1 + cosines)
    sines = squares.clamp(min=torch.finfo(cosines.dtype).tiny).sqrt()
    shifted = cosines * math.cos(margin) - sines * math.sin(margin)
    return torch.where(cosines >= -math.cos(margin), shifted, cosines - margin * math.sin(margin))


def arcface(student: Outputs, targets: Tensor, *, margin: float) -> Tensor:
    """Return the mean loss of a cosine head's outputs, a scalar; ``targets`` (N,), ``margin`` in radians.

    Source: Deng et al. 2019 (arXiv 1801.07698), equation 3.
    """
    return margin_cross_entropy(student, targets, partial(arcface_margin, margin=margin))


__all__ = ["ArcFaceConfig", "arcface", "arcface_margin"]
