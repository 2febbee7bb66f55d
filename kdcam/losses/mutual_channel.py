"""Mutual-Channel loss: each class gets a group of channels of its own, discriminative and spread over the image."""

import math
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcam.losses.loss import LossConfig, Shapes, Step, present
from kdcam.runtime.numerics import wide


class MutualChannelConfig(LossConfig):
    """Mutual-Channel loss (Chang et al., "The Devil is in the Channels: Mutual-Channel Loss for Fine-Grained Image
    Classification", IEEE TIP 2020, arXiv 2002.04264): the channels of the last map are divided among the classes.

    Idea: each class owns a group of xi channels. Discriminality: any part of a group must suffice to tell the
    class. Diversity: the channels of a group should look at different places.

    Equation: L = L_dis + diversity_weight * L_div. L_dis = cross-entropy of g, with g_k = mean over positions of
    the max over the kept channels of group k (a random part of each group is masked, anew in each step, one mask
    for the batch). L_div = 1 - mean over images and classes of h_k / xi_k, with h_k = sum over positions of the max
    over the group of the channel's softmax over positions, from 1 to xi_k. C channels make K groups of C / K; where
    that is no whole number, the last C mod K classes have one channel more. Only training sees this; the ordinary
    classifier on the same map needs a loss of its own.

    When it helps: fine-grained classes, trained from scratch (the authors: MC-Loss hurts the fine-tuning of
    pre-trained networks). kdcam's own runs gained 0.2 points on 6,000 images of MNIST and 0.8 on 13 similar classes of
    Tiny-ImageNet, there without diversity (docs/results/losses.md); a small study on Fashion-MNIST saw +1 point.

    Where it fails: many classes for few channels; the authors' group lost 2 to 7 points on CIFAR-100 (Song et al.
    2020, table). Fewer channels than classes are refused: set model.feature_channels = 3 K. Diversity drives CAAM
    and CAM apart, so that it pulls against cam. Maps of one position say nothing.

    Constants: the paper's L_MC = L_dis - lambda (1/K) sum_k h_k; with groups of one size xi, lambda = diversity_weight
    / xi. weight 1.5, diversity_weight 10 and xi = 3 are the released code's at the time of the paper
    (PRIS-CV/Mutual-Channel-Loss, first commit); its later (alpha, beta) = (1.5, 20) is weight 1.5, diversity_weight
    20 / 1.5. keep_fraction 0.5 keeps 2 of 3 as released; 0.6 keeps 6 of 10 and 7 of 11 as its script for ResNet50
    does. Unlike the released code: masked channels are left out of the max instead of set to 0, which
    matters for negative values; L_div is one mean over all classes, where the script for ResNet50 adds two means.
    """

    name: Literal["mutual_channel"] = "mutual_channel"
    weight: float = Field(1.5, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    diversity_weight: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="factor of diversity beside discriminality"
    )
    keep_fraction: float = Field(
        0.5, gt=0, le=1, description="share of each group's channels kept in a step, rounded up"
    )

    needs: ClassVar[frozenset[str]] = frozenset({"feature_map"})
    takes: ClassVar[frozenset[str]] = frozenset({"labels", "mixed"})
    misfit_heads: ClassVar[frozenset[str]] = frozenset({"cosine"})

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes; None where it can."""
        channels, classes = shapes.student.channels, shapes.num_classes
        if channels is None or channels >= classes:
            return None
        return (
            f"the last map has {channels} channels for {classes} classes, and each class needs one or "
            f"more; set model.feature_channels = {3 * classes} (3 a class) or take a wider network"
        )

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the loss module."""
        return MutualChannel(
            shapes.num_classes, diversity_weight=self.diversity_weight, keep_fraction=self.keep_fraction
        )


def group_sizes(channels: int, num_classes: int) -> list[int]:
    """Return the number of channels of each class: the last C mod K classes have one more.

    Raises ``ValueError`` for fewer channels than classes.
    """
    size, more = _divided(channels, num_classes)
    return [size] * (num_classes - more) + [size + 1] * more


def _divided(channels: int, num_classes: int) -> tuple[int, int]:
    """Return the channels of each class, and how many classes have one more."""
    if channels < num_classes:
        raise ValueError(f"{channels} channels cannot be divided among {num_classes} classes")
    return divmod(channels, num_classes)


def draw_keep_mask(
    channels: int,
    *,
    num_classes: int,
    keep_fraction: float,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return which channels (C,) are kept: in each group ``keep_fraction`` of them, rounded up, at random."""
    sizes = _sizes_on(device, channels, num_classes)
    owner = torch.arange(num_classes, device=device).repeat_interleave(sizes, output_size=channels)
    kept = (keep_fraction * sizes - 1e-6).ceil().clamp(min=1)  # 0.6 * 5 may come out above 3
    drawn = torch.rand(channels, device=device, generator=generator)
    # Shuffled within each group, the groups in order; halved, since float32 may round a sum up to the next group.
    by_group = (owner + drawn / 2).argsort()
    place = torch.arange(channels, device=device) - (sizes.cumsum(0) - sizes)[owner]
    mask = torch.empty(channels, dtype=torch.bool, device=device)
    mask[by_group] = place < kept[owner]
    return mask


def mutual_channel_loss(
    feature_map: Tensor, targets: Tensor, *, num_classes: int, keep_mask: Tensor, diversity_weight: float
) -> tuple[Tensor, Tensor]:
    """Return the scalars (discriminality, diversity), whose sum is the loss.

    Args:
        feature_map: (N, C, H, W), C >= K; the channels of a class stand side by side (`group_sizes`).
        targets: (N,) class indices or (N, K) rows that sum to 1.
        num_classes: K.
        keep_mask: (C,) bool, at least one kept channel in each group (`draw_keep_mask`).
        diversity_weight: the second scalar is this times (1 - mean h / xi), between 0 and this times 1 - 1 / xi.

    Source: Chang et al. 2020 (arXiv 2002.04264); see `MutualChannelConfig`.
    """
    channels = feature_map.shape[1]
    # Channels last in memory: groups are neighbours there, so that dividing them copies nothing.
    values = wide(feature_map.permute(0, 2, 3, 1).flatten(1, 2))
    kept = values.masked_fill(~keep_mask, -math.inf)
    discriminality = F.cross_entropy(_group_max(kept, num_classes).mean(1), targets)
    if diversity_weight == 0:
        return discriminality, discriminality.new_zeros(())
    sizes = _sizes_on(values.device, channels, num_classes)
    shares = _group_max(values.softmax(1), num_classes).sum(1) / sizes
    return discriminality, diversity_weight * (1 - shares.mean())


def _sizes_on(device: torch.device, channels: int, num_classes: int) -> Tensor:
    """Return `group_sizes` (K,), made on the device: to copy them there would make the host wait."""
    size, more = _divided(channels, num_classes)
    return size + (torch.arange(num_classes, device=device) >= num_classes - more)


def _group_max(values: Tensor, num_classes: int) -> Tensor:
    """Return the max (N, P, K) over each class's channels of values (N, P, C)."""
    size, more = _divided(values.shape[2], num_classes)
    split = (num_classes - more) * size
    smaller: Tensor = values[:, :, :split].unflatten(2, (num_classes - more, size)).amax(3)
    if more == 0:
        return smaller
    larger = values[:, :, split:].unflatten(2, (more, size + 1)).amax(3)
    return torch.cat([smaller, larger], dim=2)


class MutualChannel(nn.Module):
    """`mutual_channel_loss` of the student's feature map under a mask that is drawn in each step."""

    def __init__(self, num_classes: int, *, diversity_weight: float, keep_fraction: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.diversity_weight, self.keep_fraction = diversity_weight, keep_fraction

    def forward(self, step: Step) -> Tensor:
        """Return the scalar loss of a step."""
        feature_map = present(step.student.feature_map, "the student's feature map")
        keep_mask = draw_keep_mask(
            feature_map.shape[1],
            num_classes=self.num_classes,
            keep_fraction=self.keep_fraction,
            device=feature_map.device,
        )
        discriminality, diversity = mutual_channel_loss(
            feature_map,
            step.targets,
            num_classes=self.num_classes,
            keep_mask=keep_mask,
            diversity_weight=self.diversity_weight,
        )
        return discriminality + diversity


__all__ = ["MutualChannel", "MutualChannelConfig", "draw_keep_mask", "group_sizes", "mutual_channel_loss"]
