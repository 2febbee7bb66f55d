"""Channel-Correlation loss: images of one class should attend to the same channels, those of two to others."""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present
from kdcam.runtime.numerics import mean_squares, mean_where, wide

ChannelCorrelationForm = Literal["ratio", "margin", "difference"]
AttentionComparison = Literal["pairs", "class-means"]

RATIO_EPS = 1e-4
"""Added to both distances of the ratio, root-mean-square units (kdcam's choice): attention that is the same for all
images then costs 1. Added to the push alone, it would cost 0, and the block's hidden units were seen to die for it."""
COLLAPSED_WITHIN = 1e-4
"""How near a term may come to that of constant attention before a warning (kdcam's choice)."""
USUAL_MARGIN = 0.2
_FLOOR = 1e-10  # of a squared distance: the root's slope stays finite where vectors coincide


class ChannelCorrelationConfig(LossConfig):
    """Channel-Correlation loss (Song et al., "Channel-Correlation Loss", ICPR 2020, arXiv 2010.05469): the channel
    attention of images of one class is pulled together, that of different classes pushed apart.

    Idea: a squeeze-and-excitation block between features and classifier says which channels count for an image.
    Classes that use channels of their own are compact and separable.

    Equation: with a_i the attention (N, C), d_ij = |a_i - a_j| / sqrt(C) (squared with squared = true), pull = mean
    of d_ij over pairs of one class, push = mean over pairs of two classes. form "ratio": (pull + 1e-4) / (push + 1e-4);
    "margin": pull + max(0, margin - push); "difference": pull - push. comparison "class-means" compares each image
    with the mean attention of its class and of the other classes in the batch, N x K distances in place of N x N. A
    batch without a pair of one class has pull 0; one without a pair of two classes has push 0, and ratio 0.

    When it helps: against the attention block without the loss it gained in 13 of 15 pairs of kdcam's own runs,
    0.1 to 1.5 points on average (docs/results/losses.md, cc-table.md), but the block itself cost 0.1 to 3.0 points
    there. The paper
    reports gains of 0.9 to 3.4 points over cross-entropy, for block and loss together against neither.

    Where it fails: weight 0.3 cost 7 points on digit scenes against 0.03. Small batches of many classes have no
    pair of one class. A narrow block's hidden units may die, after which the loss does nothing; a warning is given
    then. It needs model.channel_attention = true.

    Constants: the paper's equation, weight and reduction are not known to us, and no code was released. The forms,
    weight 0.03, margin 0.2 and the division by sqrt(C), which makes a margin mean the same for any width, are
    kdcam's choice.
    """

    name: Literal["channel_correlation"] = "channel_correlation"
    weight: float = Field(0.03, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    form: ChannelCorrelationForm = Field("ratio", description="how pull and push are put together")
    margin: float = Field(
        USUAL_MARGIN, gt=0, le=1, description='distance up to which classes are pushed apart, form "margin"'
    )
    squared: bool = Field(False, description="mean squared differences in place of their root")
    comparison: AttentionComparison = Field(
        "pairs", description="all pairs of images, or images with class means (cheaper)"
    )

    needs: ClassVar[frozenset[str]] = frozenset({"channel_attention"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels"})

    @model_validator(mode="after")
    def _margin_counts(self) -> Self:
        if self.margin != USUAL_MARGIN and self.form != "margin":
            raise ValueError(
                f'margin = {self.margin:g} counts with form = "margin" only, and form is "{self.form}"'
            )
        return self

    def diagnose(self, terms: Mapping[str, float], shapes: Shapes) -> str | None:
        """Return a warning when the attention has become the same for all images."""
        del shapes
        collapsed = {"ratio": 1.0, "difference": 0.0, "margin": self.margin}[self.form]
        term = terms.get(self.name)
        if term is None or abs(term - collapsed) > COLLAPSED_WITHIN:
            return None
        return (
            f"loss {self.name}: the term stays at {term:.4f}, that of one attention for all images: the hidden units "
            "of the attention block have died; lower the weight of the loss "
            f"(now {self.weight:g}) or model.attention_reduction"
        )

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        return ChannelCorrelation(self, shapes.num_classes)


class Distances(NamedTuple):
    """How far apart the attention of a batch lies, in [0, 1]."""

    pull: Tensor  # scalar, mean over pairs of one class; 0 where there are none
    push: Tensor  # scalar, mean over pairs of two classes; 0 where there are none
    has_push: Tensor  # scalar bool


def pair_distances(attention: Tensor, targets: Tensor, *, squared: bool) -> Distances:
    """Return the mean distances over all pairs of images: ``attention`` (N, C), ``targets`` (N,)."""
    attention = wide(attention)
    distances = _distances(attention, attention, squared=squared)
    same = targets[:, None] == targets[None, :]
    others = ~torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    return _split_mean(distances, same & others, ~same)


def class_mean_distances(attention: Tensor, targets: Tensor, *, num_classes: int, squared: bool) -> Distances:
    """Return the mean distances of images to the mean attention of their class and of the batch's other classes.

    A class of one image in the batch has no pull; its mean still pushes others away.
    """
    attention = wide(attention)
    member = torch.nn.functional.one_hot(targets, num_classes).to(attention.dtype)  # (N, K)
    counts = member.sum(0)
    means = (member.T @ attention) / counts.clamp(min=1)[:, None]
    distances = _distances(attention, means, squared=squared)
    own = member > 0
    return _split_mean(distances, own & (counts > 1), ~own & (counts > 0))


# Why the ratio adds eps to both distances: docs/decisions/011.
def channel_correlation(distances: Distances, *, form: ChannelCorrelationForm, margin: float) -> Tensor:
    """Return the loss of a batch's distances, a scalar; ``margin`` counts for the form "margin" only."""
    pull, push, has_push = distances
    if form == "difference":
        return pull - push
    if form == "margin":
        return pull + torch.where(has_push, (margin - push).clamp(min=0), 0.0)
    return torch.where(has_push, (pull + RATIO_EPS) / (push + RATIO_EPS), 0.0)


def _distances(one: Tensor, other: Tensor, *, squared: bool) -> Tensor:
    """Return root-mean-square distances (N, M) of rows (N, C) and (M, C), or their squares."""
    squares = mean_squares(one, other)
    return squares if squared else squares.clamp(min=_FLOOR).sqrt() * (squares > _FLOOR)


def _split_mean(distances: Tensor, pulled: Tensor, pushed: Tensor) -> Distances:
    return Distances(mean_where(distances, pulled), mean_where(distances, pushed), pushed.any())


class ChannelCorrelation(nn.Module):
    """`channel_correlation` of the student's channel attention."""

    def __init__(self, config: ChannelCorrelationConfig, num_classes: int) -> None:
        super().__init__()
        self.config, self.num_classes = config, num_classes

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        config = self.config
        attention = present(step.student.channel_attention, "the student's channel attention")
        if config.comparison == "pairs":
            distances = pair_distances(attention, step.targets, squared=config.squared)
        else:
            distances = class_mean_distances(
                attention, step.targets, num_classes=self.num_classes, squared=config.squared
            )
        return channel_correlation(distances, form=config.form, margin=config.margin)


__all__ = [
    "ChannelCorrelation",
    "ChannelCorrelationConfig",
    "Distances",
    "channel_correlation",
    "class_mean_distances",
    "pair_distances",
]
