"""Homogeneous negative CAM: the maps of the classes that an image does not show are made flat."""

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from kdcam.cam.maps import class_cams
from kdcam.losses.loss import LossConfig, Shapes, Step, present
from kdcam.runtime.numerics import mean_where, wide, wide_dtype


class HncMseConfig(LossConfig):
    """Homogeneous negative CAM, squared form (Sun, Khan et al., "Fixing Localization Errors to Improve Image
    Classification", ECCV 2020): the class activation maps of the strongest wrong classes are pulled to a constant.

    Idea: where a wrong class responds strongly in a part of the image, it looks at something that is not its own;
    a map without peaks leaves it no place to look at.

    Equation: L = mean over images and their top_k negative classes o, and over positions p, of (M_o(p) - alpha)^2,
    with M_o(p) = w_o . f(p) + b_o, whose mean over p is the logit of o. Negative classes are all but the label, for
    mixed rows all without weight, for several labels the absent ones; the top_k are those with the largest logits.
    Gradients reach features, weight and bias.

    When it helps: classes that look alike, large class counts, where the strongest wrong classes are a few of
    many (the paper's claim; on ImageNet top_k = 100 of 1,000). Of several labels an image, kdcam's own runs gained
    0.4 points of mean average precision in three of three seeds (docs/results/losses.md).

    Where it fails: with few classes the top_k are all negatives, and a large weight takes evidence away that
    training still needs: on digit scenes weight 0.5 from the start cost 36 points, 0.07 cost 3.5. A late start
    softens that. With model.head = "cosine" maps are as large as its scale, and weights have to be chosen anew.
    Flat maps of wrong classes do not better the label's: on digit scenes its CAM pointed into the box 7 points less
    often. It needs an exact CAM.

    Constants: alpha 0 and the mean over all entries are the released code's (GuoleiSun/HNC_loss @ 5d44b50), so
    that its weight of 0.07 (ResNet-101 and 152 on ImageNet, k = 100) is 0.07 here. weight 0.01, start 0.5 and
    top_k 10 (or all negatives where there are fewer) are kdcam's choice for small problems.
    """

    name: Literal["hnc_mse"] = "hnc_mse"
    weight: float = Field(0.01, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    start: float = Field(0.5, ge=0, lt=1, description="fraction of the run at which the term is switched on")
    top_k: int = Field(
        10, ge=1, description="negative classes of an image, those with the largest logits; at most all"
    )
    alpha: float = Field(0.0, allow_inf_nan=False, description="the value that the maps are pulled to")

    needs: ClassVar[frozenset[str]] = frozenset({"cam"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return HncMse(self.top_k, self.alpha)


class HncKdConfig(LossConfig):
    """Homogeneous negative CAM, divergence form (Sun, Khan et al., "Fixing Localization Errors to Improve Image
    Classification", ECCV 2020): the class activation maps of the strongest wrong classes are pulled to uniform ones.

    Idea: as hnc_mse, but only the shape of a map counts: a constant may be added to it freely.

    Equation: L = mean over images and their top_k negative classes o of KL(U || softmax_p(M_o / temperature)), with
    U uniform over the HW positions and M_o(p) = w_o . f(p) + b_o; 0 for a constant map. The constant log(HW) that
    the released code's value carries is left out, which changes no gradient. Negative classes as in hnc_mse.

    When it helps: as hnc_mse. Where it fails: as hnc_mse; on digit scenes weight 0.5 cost 3 points with a late
    start, 15 without, and the label's CAM pointed into the box 17 points less often at weight 0.2. It needs an exact
    CAM.

    Constants: temperature 1 is the released code's (GuoleiSun/HNC_loss @ 5d44b50). That code sums over the k
    classes where kdcam takes the mean: its weight times k is ours, so 0.0065 and 0.0048 (ResNet-101, ResNet-152,
    ImageNet, k = 100) are 0.65 and 0.48 here. weight 0.05, start 0.5 and top_k 10 are kdcam's choice for small
    problems.
    """

    name: Literal["hnc_kd"] = "hnc_kd"
    weight: float = Field(0.05, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    start: float = Field(0.5, ge=0, lt=1, description="fraction of the run at which the term is switched on")
    top_k: int = Field(
        10, ge=1, description="negative classes of an image, those with the largest logits; at most all"
    )
    temperature: float = Field(1.0, gt=0, allow_inf_nan=False, description="divides the maps")

    needs: ClassVar[frozenset[str]] = frozenset({"cam"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed", "multi-label"})

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        del shapes
        return HncKd(self.top_k, self.temperature)


def hnc_mse(
    feature_map: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, top_k: int, alpha: float
) -> Tensor:
    """Return the mean squared distance of the negative classes' maps from ``alpha``, a scalar of 0 or more.

    ``feature_map`` is (N, C, H, W), ``weight`` (K, C), ``bias`` (K,); ``targets`` are (N,) class indices or (N, K)
    rows, in which every class above 0 is positive. 0 where no image has a negative class.
    Source: Sun, Khan et al., ECCV 2020; alpha = 0 in GuoleiSun/HNC_loss @ 5d44b50.
    """
    maps = _negative_maps(feature_map, weight, bias, targets, top_k)
    return maps.mean_of((maps.cams - alpha).square().mean(2))


def hnc_kd(
    feature_map: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    top_k: int,
    temperature: float,
) -> Tensor:
    """Return the mean divergence KL(uniform || softmax over positions) of the negative classes' maps, 0 or more.

    Arguments as those of `hnc_mse`. Source: Sun, Khan et al., ECCV 2020.
    """
    maps = _negative_maps(feature_map, weight, bias, targets, top_k)
    positions = maps.cams.shape[2]
    cross_entropy = -(maps.cams / temperature).log_softmax(2).mean(2)
    return maps.mean_of(cross_entropy - math.log(positions))


class _NegativeMaps(NamedTuple):
    cams: Tensor  # (N, k, HW) of the strongest negative classes
    negative: Tensor  # (N, k) bool; False where an image has fewer negative classes than k

    def mean_of(self, values: Tensor) -> Tensor:
        """Return the mean of values (N, k) over the pairs that are there; 0 where there are none."""
        return mean_where(values, self.negative)


def _negative_maps(
    feature_map: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, top_k: int
) -> _NegativeMaps:
    with torch.autocast(feature_map.device.type, enabled=False):
        features, weight = wide(feature_map), weight.to(wide_dtype(feature_map))
        bias = weight.new_zeros(len(weight)) if bias is None else bias.to(weight.dtype)
        scores, classes = _strongest_negatives(features, weight, bias, targets, top_k)
        channels, height, width = features.shape[1:]
        if top_k * channels <= len(weight) * height * width:
            # The rows of the chosen classes are smaller than the maps of all classes: work on those.
            cams = weight[classes] @ features.flatten(2) + bias[classes][:, :, None]
        else:
            every = class_cams(features, weight, bias).flatten(2)
            cams = every.gather(1, classes[:, :, None].expand(-1, -1, height * width))
    return _NegativeMaps(cams, scores > -math.inf)


@torch.no_grad()
def _strongest_negatives(
    features: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, top_k: int
) -> tuple[Tensor, Tensor]:
    """Return scores (N, k), -inf where a class is no negative one, and classes (N, k)."""
    logits = features.mean((2, 3)) @ weight.T + bias
    if targets.ndim == 1:
        logits.scatter_(1, targets[:, None], -math.inf)
    else:
        logits.masked_fill_(targets > 0, -math.inf)
    most = len(weight) - (1 if targets.ndim == 1 else 0)
    scores, classes = logits.topk(min(top_k, most), dim=1)
    return scores, classes


class HncMse(nn.Module):
    """`hnc_mse` of the student's feature map and classifier."""

    def __init__(self, top_k: int, alpha: float) -> None:
        super().__init__()
        self.top_k, self.alpha = top_k, alpha

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return hnc_mse(*_map_and_classifier(step), step.targets, top_k=self.top_k, alpha=self.alpha)


class HncKd(nn.Module):
    """`hnc_kd` of the student's feature map and classifier."""

    def __init__(self, top_k: int, temperature: float) -> None:
        super().__init__()
        self.top_k, self.temperature = top_k, temperature

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        return hnc_kd(
            *_map_and_classifier(step), step.targets, top_k=self.top_k, temperature=self.temperature
        )


def _map_and_classifier(step: Step) -> tuple[Tensor, Tensor, Tensor | None]:
    student = step.student
    feature_map = present(student.feature_map, "the student's feature map")
    return feature_map, present(student.weight, "the classifier's weight"), student.bias


__all__ = ["HncKd", "HncKdConfig", "HncMse", "HncMseConfig", "hnc_kd", "hnc_mse"]
