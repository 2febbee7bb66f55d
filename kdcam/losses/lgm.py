"""Large-margin Gaussian mixture loss (L-GM): each class's embeddings are a Gaussian cloud about a learned mean."""

from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present
from kdcam.runtime.numerics import wide


class LgmConfig(LossConfig):
    """Large-margin Gaussian mixture loss (Wan et al., "Rethinking Feature Distribution for Loss Functions in Image
    Classification", CVPR 2018, arXiv 1803.02988): an image belongs to the class whose mean is nearest.

    Idea: a class is a Gaussian cloud of unit covariance about a mean, which is learned; the own mean must be nearer
    than the others by a margin, and a likelihood term draws the embeddings to it.

    Equation: with d_j = |x - mu_j|^2 / 2: L = mean_n of -log softmax(-d_j (1 + margin [j = y]))_y + likelihood_weight
    * mean_n of d_y. The means are the rows of the gaussian head ([model] head = "gaussian"), whose logits are -d_j up
    to a number that all classes share: evaluation, CAM, distillation and attacks see these, without the margin.

    When it helps: compact classes, and telling images of no class by their distance to every mean (the paper).
    Where it fails: distances, and so the logits, grow with the width and the scale of the embeddings; where they are
    large from the start, a large margin leaves chance level late. It stands in place of cross_entropy, not beside it.

    Constants: margin 0.1 (the paper's alpha) and likelihood_weight 0.01 (its lambda) are those of the authors'
    TensorFlow code (WeitaoVan/L-GM-loss, tensorflow/resnet_model.py). Their Caffe example for CIFAR-100 doubles alpha
    from 0.1 every 5,000 iterations up to 0.3 and has center_coef 0.1. The covariance is the identity and classes are
    equally likely, as in that code; the learned covariance of the paper is left out.
    """

    name: Literal["lgm"] = "lgm"
    margin: float = Field(
        0.1, ge=0, allow_inf_nan=False, description="0: none; added share of the own distance"
    )
    likelihood_weight: float = Field(0.01, ge=0, allow_inf_nan=False, description="0: no likelihood term")

    needs: ClassVar[frozenset[str]] = frozenset({"gaussian_head"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels"})
    trains_classifier: ClassVar[bool] = True

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return Lgm(self.margin, self.likelihood_weight)


def lgm(
    logits: Tensor,
    embedding: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    margin: float,
    likelihood_weight: float,
) -> Tensor:
    """Return the mean loss of a batch, a scalar of 0 or more.

    Args:
        logits: (N, K), -|x - mu_j|^2 / 2 or that plus a number of each image, as of the gaussian head.
        embedding: (N, E), x.
        weight: (K, E), the means mu.
        targets: (N,) class indices.
        margin: added share of the distance to the own mean; 0: none.
        likelihood_weight: of the mean of half the squared distances to the own mean; 0: none.

    Source: Wan et al. 2018 (arXiv 1803.02988), with the identity as covariance.
    """
    # Not from the logits, where small distances of large values would be lost.
    own = (wide(embedding) - wide(weight)[targets]).square().sum(1) / 2
    logits = wide(logits)
    label = F.one_hot(targets, logits.shape[1])
    parted = logits - label * (margin * own)[:, None]
    return F.cross_entropy(parted, targets) + likelihood_weight * own.mean()


class Lgm(nn.Module):
    """`lgm` of the student's logits, embedding and class means."""

    def __init__(self, margin: float, likelihood_weight: float) -> None:
        super().__init__()
        self.margin, self.likelihood_weight = margin, likelihood_weight

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student = step.student
        return lgm(
            student.logits,
            student.embedding,
            present(student.weight, "the classifier's weight"),
            step.targets,
            margin=self.margin,
            likelihood_weight=self.likelihood_weight,
        )


__all__ = ["Lgm", "LgmConfig", "lgm"]
