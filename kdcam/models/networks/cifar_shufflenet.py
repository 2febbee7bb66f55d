"""ShuffleNet V1 and V2 for 32-pixel images, students of the distillation literature.

Architecture and parameter names are those of HobbitLong/RepDistiller (models/ShuffleNetv1.py and ShuffleNetv2.py
at commit eedab9d), after Zhang et al. 2017 (arXiv 1707.01083) and Ma et al. 2018 (arXiv 1807.11164). They differ
from the papers: the stem is a 1x1 convolution without stride or pooling, so that the last map of 32 pixels is
4x4; V1 has a ReLU after its depthwise convolution too; V2's first block of a stage comes on top of the paper's
repeats of the others. All weights start as torch's layers do.
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from kdcam.models.networks.pooled_network import PooledNetwork, linear_layer

_STEM = 24  # channels


class ShuffleV1Spec(NamedTuple):
    """What tells one ShuffleNet V1 from another."""

    widths: tuple[int, int, int]  # channels of the stages
    blocks: tuple[int, int, int]  # of the stages
    groups: int  # of the 1x1 convolutions


class ShuffleV2Spec(NamedTuple):
    """What tells one ShuffleNet V2 from another."""

    widths: tuple[int, int, int, int]  # channels of the stages and of the last map
    blocks: tuple[int, int, int]  # of the stages, without their first


class ShuffleV1Block(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; with a stride the pooled input is put behind the result."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, groups: int) -> None:
        super().__init__()
        self.has_stride = stride != 1
        new_channels = channels - in_channels if self.has_stride else channels
        middle = new_channels // 4
        # The stem's few channels are not grouped (the paper's section 3.2).
        self.groups = 1 if in_channels == _STEM else groups
        self.conv1 = nn.Conv2d(in_channels, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, new_channels, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(new_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, after the ReLU."""
        out = shuffle_channels(self.bn1(self.conv1(x)).relu_(), self.groups)
        out = self.bn2(self.conv2(out)).relu_()
        out = self.bn3(self.conv3(out))
        if self.has_stride:
            return torch.cat([out, nn.functional.avg_pool2d(x, 3, 2, padding=1)], dim=1).relu_()
        total: Tensor = out + x
        return total.relu_()


class ShuffleV2Block(nn.Module):
    """Half of the channels through a 1x1, a depthwise 3x3 and a 1x1 convolution, then a shuffle with the others."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, shuffled."""
        kept, changed = x.chunk(2, dim=1)
        out = self.bn1(self.conv1(changed)).relu_()
        out = self.bn2(self.conv2(out))
        out = self.bn3(self.conv3(out)).relu_()
        return shuffle_channels(torch.cat([kept, out], dim=1), 2)


class ShuffleV2Down(nn.Module):
    """Two branches of stride 2 that read all channels and give half of the new ones each, then a shuffle."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, 2, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, shuffled."""
        short = self.bn2(self.conv2(self.bn1(self.conv1(x)))).relu_()
        long = self.bn3(self.conv3(x)).relu_()
        long = self.bn5(self.conv5(self.bn4(self.conv4(long)))).relu_()
        return shuffle_channels(torch.cat([short, long], dim=1), 2)


class CifarShuffleNetV1(PooledNetwork):
    """A ShuffleNet V1 of three stages."""

    classifier_name: ClassVar[str] = "linear"
    first_conv: ClassVar[str] = "conv1"
    published_indices: ClassVar[tuple[int, ...]] = (1, 2, 3)  # the stages'

    def __init__(
        self, spec: ShuffleV1Spec, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
    ) -> None:
        super().__init__(spec.widths[-1], num_classes=num_classes, drop_rate=drop_rate)
        first, second, third = spec.widths
        self.conv1 = nn.Conv2d(in_chans, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.layer1 = _stage_v1(_STEM, first, spec.blocks[0], spec.groups)
        self.layer2 = _stage_v1(first, second, spec.blocks[1], spec.groups)
        self.layer3 = _stage_v1(second, third, spec.blocks[2], spec.groups)
        self.linear = linear_layer(third, num_classes)

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map, and those of the stem and of each stage, of normalised images."""
        maps = [self.bn1(self.conv1(x)).relu_()]
        for stage in (self.layer1, self.layer2, self.layer3):
            maps.append(stage(maps[-1]))
        return maps[-1], maps


class CifarShuffleNetV2(PooledNetwork):
    """A ShuffleNet V2 of three stages and a last 1x1 convolution."""

    classifier_name: ClassVar[str] = "linear"
    first_conv: ClassVar[str] = "conv1"
    published_indices: ClassVar[tuple[int, ...]] = (1, 2, 3)  # the stages'

    def __init__(
        self, spec: ShuffleV2Spec, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
    ) -> None:
        super().__init__(spec.widths[-1], num_classes=num_classes, drop_rate=drop_rate)
        first, second, third, last = spec.widths
        self.conv1 = nn.Conv2d(in_chans, _STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.layer1 = _stage_v2(_STEM, first, spec.blocks[0])
        self.layer2 = _stage_v2(first, second, spec.blocks[1])
        self.layer3 = _stage_v2(second, third, spec.blocks[2])
        self.conv2 = nn.Conv2d(third, last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.linear = linear_layer(last, num_classes)

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map, and those of the stem and of each stage and it, of normalised images."""
        maps = [self.bn1(self.conv1(x)).relu_()]
        for stage in (self.layer1, self.layer2, self.layer3):
            maps.append(stage(maps[-1]))
        last: Tensor = self.bn2(self.conv2(maps[-1])).relu_()
        return last, [*maps, last]


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Return maps (N, C, H, W) with the channels of each group dealt out one after the other over the groups."""
    grouped: Tensor = x.unflatten(1, (groups, -1))
    return grouped.transpose(1, 2).flatten(1, 2)


def _stage_v1(in_channels: int, channels: int, blocks: int, groups: int) -> nn.Sequential:
    later = [ShuffleV1Block(channels, channels, stride=1, groups=groups) for _ in range(1, blocks)]
    return nn.Sequential(ShuffleV1Block(in_channels, channels, stride=2, groups=groups), *later)


def _stage_v2(in_channels: int, channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        ShuffleV2Down(in_channels, channels), *(ShuffleV2Block(channels) for _ in range(blocks))
    )


SHUFFLENETS_V1: dict[str, ShuffleV1Spec] = {
    "shufflenetv1": ShuffleV1Spec((240, 480, 960), (4, 8, 4), groups=3)
}
SHUFFLENETS_V2: dict[str, ShuffleV2Spec] = {"shufflenetv2": ShuffleV2Spec((116, 232, 464, 1024), (3, 7, 3))}

__all__ = [
    "SHUFFLENETS_V1",
    "SHUFFLENETS_V2",
    "CifarShuffleNetV1",
    "CifarShuffleNetV2",
    "ShuffleV1Block",
    "ShuffleV1Spec",
    "ShuffleV2Block",
    "ShuffleV2Down",
    "ShuffleV2Spec",
    "shuffle_channels",
]
