"""Knowledge review: the student's shallow maps, fused with its deeper ones, follow the teacher's at each depth."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.errors import RecipeError
from kdcam.losses.loss import LossConfig, Shapes, Step, present, teacher_of
from kdcam.losses.shared.stages import (
    MAP_NEEDS,
    matched_maps,
    matched_sizes,
    teacher_widths,
    why_too_few_maps,
)
from kdcam.runtime.numerics import wide

PYRAMID = (4, 2, 1)  # sides of the pooled maps
MOST_SHARED_CHANNELS = 512


class ReviewKdConfig(LossConfig):
    """Knowledge review, ReviewKD (Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021,
    arXiv 2104.09044): the teacher's earlier maps guide the student's later ones too.

    Idea: a student's deep maps can learn from the teacher's shallow ones. Instead of comparing each depth with all
    others, a student's map is fused with what came of all deeper ones, and that is compared with the teacher's map.

    Equation: from the embedding up to the shallowest map, x_i = BN(conv1x1(F_i)); with (a, b) = sigmoid(conv1x1([x_i,
    r_i+1])) at each place, r_i = a x_i + b r_i+1, the deeper r enlarged to x_i's size; G_i = BN(conv3x3(r_i)), r_i at
    the teacher's size. L = sum over i of the mean square of G_i - F_teacher,i plus 1/2, 1/4 and 1/8 of the same for
    both average-pooled to 4 x 4, 2 x 2 and 1 x 1 (the sizes below the map's own), divided by the sum of these weights.
    The maps are the last of each size, matched from the end; the embeddings are one more pair, as maps of one place.

    When it helps: it was the best of the methods that compare maps when it was published, across families too (the
    paper's tables). Where it fails: it costs much, since all the fusing is trained beside the student, and its weight
    must be found for each pair. BatchNorm refuses a batch of one image (a process).

    Constants: weight 1 is the default of dvlab-research/ReviewKD, CIFAR-100. Its script has: resnet56 -> resnet20 0.6;
    resnet110 -> resnet32 1; resnet32x4 -> resnet8x4 5, -> ShuffleNetV1 5, -> ShuffleNetV2 8; wrn_40_2 -> wrn_16_2,
    wrn_40_1 and ShuffleNetV1 5. warmup is its 20 of 240 epochs, by the step instead of the epoch. At most 512 shared
    channels, the pyramid and the weights' start are that code's. It reads the teacher's maps before their last ReLU;
    kdcam's networks tell them behind it, and RepDistiller's maps (stages = "published" of other losses) are not its.
    Where the student's map is larger than the teacher's, the nearest places are taken, as there.
    """

    name: Literal["review_kd"] = "review_kd"
    warmup: float = Field(
        20 / 240,
        ge=0,
        le=1,
        description="fraction of the run, from start on, over which the weight grows from 0",
    )

    needs: ClassVar[frozenset[str]] = MAP_NEEDS | {"teacher.embedding"}
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})
    takes_one_place: ClassVar[bool] = True

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can."""
        return why_too_few_maps(shapes, least=2)

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        channels = [(student[0], teacher[0]) for student, teacher in matched_sizes(shapes)]
        channels.append((shapes.student.embedding, teacher_widths(shapes).embedding))
        return ReviewKd(channels, shared_channels=min(MOST_SHARED_CHANNELS, shapes.student.embedding))


def hierarchical_context(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the weighted mean of the mean squares of the difference of two maps and of their pooled maps, >= 0.

    Both are (N, C, H, W). Source: Chen et al. 2021 (arXiv 2104.09044), as in dvlab-research/ReviewKD.
    """
    student_map, teacher_map = wide(student_map), wide(teacher_map)
    total, weight, weights = F.mse_loss(student_map, teacher_map), 1.0, 1.0
    for side in PYRAMID:
        if side < min(student_map.shape[2:]):
            weight /= 2
            pooled = F.adaptive_avg_pool2d(student_map, side), F.adaptive_avg_pool2d(teacher_map, side)
            total = total + weight * F.mse_loss(*pooled)
            weights += weight
    return total / weights


class Fusion(nn.Module):
    """Adds two maps, each weighted at each place by what both show there."""

    def __init__(self, shared_channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(2 * shared_channels, 2, 1)

    def forward(self, own: Tensor, deeper: Tensor) -> Tensor:
        """Return the fused map (N, C, H, W) of two such maps; ``deeper`` may have another height and width."""
        deeper = _resized(deeper, own.shape[2:])
        shares: Tensor = self.attention(torch.cat([own, deeper], dim=1)).sigmoid()
        return shares[:, :1] * own + shares[:, 1:] * deeper


class ReviewKd(nn.Module):
    """The sum of `hierarchical_context` over the depths, with the student's maps told through learned fusions."""

    def __init__(self, channels: Sequence[tuple[int, int]], *, shared_channels: int) -> None:
        """Take the student's and the teacher's channels at each depth, shallow to deep, the embedding last."""
        super().__init__()
        deepest_first = list(channels)[::-1]
        self.enters = nn.ModuleList(
            _normalised(nn.Conv2d(student, shared_channels, 1, bias=False)) for student, _ in deepest_first
        )
        self.fusions = nn.ModuleList(Fusion(shared_channels) for _ in deepest_first[1:])
        self.leaves = nn.ModuleList(
            _normalised(nn.Conv2d(shared_channels, teacher, 3, padding=1, bias=False))
            for _, teacher in deepest_first
        )

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        teacher = teacher_of(step)
        if len(step.student.embedding) == 1:
            raise RecipeError(
                "batch_size: review_kd normalises over a batch, and a process got a single image; raise batch_size, so "
                "that each process has two images or more of every batch, the last one included"
            )
        embedding = present(teacher.embedding, "the teacher's embedding").detach()
        pairs = [*matched_maps(step.student, teacher), (_as_map(step.student.embedding), _as_map(embedding))]
        carried: Tensor | None = None
        terms = []
        for depth, (student_map, teacher_map) in enumerate(reversed(pairs)):
            own = self.enters[depth](wide(student_map))
            if carried is not None:
                own = self.fusions[depth - 1](own, carried)
            carried = _resized(own, teacher_map.shape[2:])
            terms.append(hierarchical_context(self.leaves[depth](carried), teacher_map))
        return torch.stack(terms).sum()


def _as_map(embedding: Tensor) -> Tensor:
    return embedding[:, :, None, None]


def _normalised(convolution: nn.Conv2d) -> nn.Sequential:
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    # No running statistics: a loss is never evaluated.
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels, track_running_stats=False))


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    return maps if maps.shape[2:] == tuple(size) else F.interpolate(maps, tuple(size), mode="nearest")


__all__ = [
    "MOST_SHARED_CHANNELS",
    "PYRAMID",
    "Fusion",
    "ReviewKd",
    "ReviewKdConfig",
    "hierarchical_context",
]
