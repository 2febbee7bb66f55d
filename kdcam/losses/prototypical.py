"""Prototypical networks' loss: the images of a batch are classified by the nearest class mean of a few of them."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present
from kdcam.runtime.numerics import mean_where, unit_rows, wide
from kdcam.settings.validation import Positive

USUAL_PROTOTYPE_SCALE = 10.0


class PrototypicalConfig(LossConfig):
    """Prototypical networks (Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017,
    arXiv 1703.05175): the first images of each class in a batch make its prototype, the others must be nearest to it.

    Idea: training does what a few-shot test will ask for: tell classes apart by a few images of each, in batches that
    are such tests (episodes, from the [episodes] table of the recipe).

    Equation: c_k is the mean embedding of the first ``shots`` images of class k in the batch (the support), and
    L = -log(exp(-d(x, c_y)) / sum_k exp(-d(x, c_k))), mean over the other images x (the queries), with k over the
    classes of the batch and d the squared euclidean distance. ``distance = "cosine"`` has scale * cos(x, c_k) in the
    place of -d.

    When it helps: few-shot tests on classes that were not trained on, of as many shots as trained with; more ways in
    training than in the test (60 against 5 in the paper, 20 in the recipe here) help, as the paper shows.

    Where it fails: ordinary batches of many classes, where most of these have no image beyond the support; and large
    embeddings at the start of training, whose squared distances make the softmax all or nothing. Chen et al. (2019,
    arXiv 1904.04232) find that with deeper networks plain cross_entropy training does as well.

    The classifier learns beside it, by cross-entropy of all images on the embedding without gradient to the network,
    so that validation scores, and selecting by them, mean something. It changes nothing else, and the term's value
    leaves it out. This is kdcam's choice: the paper has no classifier.

    Constants: ``shots`` as in the test (episodes.shots where the recipe has episodes, which tell it). ``scale``, of
    cosine alone, is kdcam's choice.
    """

    name: Literal["prototypical"] = "prototypical"
    shots: int = Field(1, ge=1, description="images of a class in a batch that make its prototype, the first")
    distance: Literal["euclidean", "cosine"] = "euclidean"
    scale: Positive = Field(
        USUAL_PROTOTYPE_SCALE, description="of cosine: what the cosines are multiplied with"
    )

    needs: ClassVar[frozenset[str]] = frozenset({"classifier_weight"})
    trains_classifier: ClassVar[bool] = True

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        if self.distance == "euclidean" and self.scale != USUAL_PROTOTYPE_SCALE:
            raise ValueError(
                f'found scale = {self.scale:g} with distance = "euclidean", which it does nothing for; remove it, or '
                'set distance = "cosine"'
            )
        return self

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        return Prototypical(self, shapes.num_classes)

    def diagnose(self, terms: Mapping[str, float], shapes: Shapes) -> str | None:
        """Return a warning when no image of an epoch was a query."""
        del shapes
        if terms.get(self.name) != 0:
            return None
        return (
            f"prototypical: was 0 in all of the epoch: no class had more than shots = {self.shots} images in a batch; "
            "add an [episodes] table, or raise batch_size"
        )


def support_mask(targets: Tensor, *, shots: int) -> Tensor:
    """Return which images (N,) bool are among the first ``shots`` of their class; ``targets`` (N,)."""
    order = torch.argsort(targets, stable=True)
    by_class = targets[order]
    rank = torch.arange(len(targets), device=targets.device) - torch.searchsorted(by_class, by_class)
    return torch.zeros_like(targets, dtype=torch.bool).scatter(0, order, rank < shots)


def class_means(
    embedding: Tensor, targets: Tensor, counted: Tensor, *, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Return the mean embedding (K, E) of each class over the images ``counted`` (N,) bool, and which have any (K,).

    A class without an image has zeros.
    """
    member = F.one_hot(targets, num_classes).to(embedding) * counted[:, None]
    counts = member.sum(0)
    return member.T @ embedding / counts.clamp(min=1)[:, None], counts > 0


def closeness(embedding: Tensor, means: Tensor) -> Tensor:
    """Return minus the squared euclidean distance of each embedding (N, E) to each mean (K, E), as (N, K)."""
    # Distances do not change with the origin, rounding does: at the middle of the means all numbers are small.
    middle = means.detach().mean(0)
    embedding, means = embedding - middle, means - middle
    squares = embedding.square().sum(1)[:, None] + means.square().sum(1)
    return 2 * embedding @ means.T - squares


def scaled_cosines(embedding: Tensor, means: Tensor, *, scale: float) -> Tensor:
    """Return the scaled cosine of each embedding (N, E) to each mean (K, E), as (N, K); 0 for zeros."""
    return scale * unit_rows(embedding) @ unit_rows(means).T


def prototypical(similarity: Tensor, seen: Tensor, targets: Tensor, queries: Tensor) -> Tensor:
    """Return the mean cross-entropy of the queries over the classes seen, a scalar; 0 where there is no query.

    Args:
        similarity: (N, K), of each image to each prototype: -d in the paper's equation 2.
        seen: (K,) bool, the classes that have a prototype.
        targets: (N,) class indices.
        queries: (N,) bool; the others are not counted.

    Source: Snell et al. 2017 (arXiv 1703.05175), equation 2.
    """
    logits = similarity.masked_fill(~seen, -torch.inf)
    return mean_where(F.cross_entropy(logits, targets, reduction="none"), queries)


class Prototypical(nn.Module):
    """`prototypical` of the student's embedding, with the classifier trained beside it."""

    def __init__(self, config: PrototypicalConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        student, targets, config = step.student, step.targets, self.config
        # Squares are too coarse in half precision.
        with torch.autocast(student.embedding.device.type, enabled=False):
            embedding = wide(student.embedding)
            support = support_mask(targets, shots=config.shots)
            means, seen = class_means(embedding, targets, support, num_classes=self.num_classes)
            similarity = (
                closeness(embedding, means)
                if config.distance == "euclidean"
                else scaled_cosines(embedding, means, scale=config.scale)
            )
            weight = wide(present(student.weight, "the classifier's weights"))
            bias = None if student.bias is None else wide(student.bias)
            own = F.cross_entropy(F.linear(embedding.detach(), weight, bias), targets)
        # The classifier's gradient without its value: the term is the paper's number.
        return prototypical(similarity, seen, targets, ~support) + (own - own.detach())


__all__ = [
    "USUAL_PROTOTYPE_SCALE",
    "Prototypical",
    "PrototypicalConfig",
    "class_means",
    "closeness",
    "prototypical",
    "scaled_cosines",
    "support_mask",
]
