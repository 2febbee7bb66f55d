"""Center loss: the embeddings of a class are drawn to its centre."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step
from kdcam.losses.shared.class_centers import USUAL_CENTER_RATE, MovedCenters
from kdcam.runtime.numerics import mean_where, wide, wide_dtype


class CenterConfig(LossConfig):
    """Center loss (Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016): the
    squared distance of each embedding to the centre of its class, beside cross-entropy.

    Idea: cross-entropy separates classes but leaves them wide; this pulls each one together.

    Equation: L = mean_i of |x_i - c_y|^2 / 2. The centres have no gradient: after each step c_j -= center_rate * sum
    over the batch's images of j of (c_j - x_i) / (1 + their number). A class's first images set its centre.

    When it helps: embeddings that are compared by distance (faces, few-shot). Where it fails: alone (all embeddings
    at one point cost nothing), and with a weight so large that they shrink to the origin; with about as many classes
    as images in a batch most centres stand still in a step. The value grows with the width and the square of the
    embeddings' scale, so that a weight suits one network; under
    model.head = "cosine" embeddings have length 1, where the same weight does far less.

    Constants: weight 0.003 and center_rate 0.5 are the paper's as it is usually cited; we could not check its text.
    Where published weights w come from decides what they are here:
    paper: sums over the batch of both this term (with 1/2) and cross-entropy: w;
    ydwen/caffe, center_loss_layer.cpp: mean with 1/2 beside a mean: w (0.008 in face_train_test.prototxt, as in forks);
    KaiyangZhou/pytorch-center-loss: mean without 1/2: 2 w;
    WeitaoVan/L-GM-loss, tensorflow: sum with 1/2 beside a mean: w times the batch size (w 0.0005, batch 200).
    The first images' mean as the start of a centre is kdcam's choice; ydwen/caffe draws the centres at random.
    """

    name: Literal["center"] = "center"
    weight: float = Field(0.003, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    center_rate: float = Field(
        USUAL_CENTER_RATE, gt=0, le=1, description="how far the centres follow a batch"
    )

    takes: ClassVar[frozenset[str]] = frozenset({"labels"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        return Center(MovedCenters(shapes.num_classes, shapes.student.embedding, rate=self.center_rate))


def center(embedding: Tensor, centers: Tensor, seen: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of half the squared distances to the own class's centre, a scalar of 0 or more.

    Args:
        embedding: (N, E).
        centers: (K, E).
        seen: (K,) bool, the classes that have a centre; images of others are not counted.
        targets: (N,) class indices.

    Source: Wen et al. 2016, equation 2, as a mean over the batch.
    """
    own = centers.to(wide_dtype(embedding))[targets]
    return mean_where((wide(embedding) - own).square().sum(1) / 2, seen[targets])


class Center(nn.Module):
    """`center` of the student's embedding, with centres of its own."""

    def __init__(self, centers: MovedCenters) -> None:
        super().__init__()
        self.centers = centers

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step; the centres then follow the batch."""
        embedding = step.student.embedding
        centers = self.centers(embedding.detach(), step.targets)
        return center(embedding, centers.positions, centers.seen, step.targets)


__all__ = ["Center", "CenterConfig", "center"]
