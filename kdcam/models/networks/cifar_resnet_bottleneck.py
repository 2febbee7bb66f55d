"""The residual network of bottleneck blocks for 32-pixel images: the literature's largest teacher, ResNet50.

Architecture and parameter names are those of HobbitLong/RepDistiller (models/resnetv2.py at commit eedab9d):
four stages after a 3x3 stem of stride 1 without pooling, so that its last map is 4x4 where an ImageNet ResNet-50
(He et al. 2016, arXiv 1512.03385, table 1) would have 1x1. The last map is the one after the ReLU.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from kdcam.models.networks.pooled_network import PooledNetwork, he_normal, linear_layer

_EXPANSION = 4  # output channels of a block for each channel of its 3x3 convolution


class BottleneckSpec(NamedTuple):
    """What tells one of these networks from another."""

    blocks: tuple[int, int, int, int]  # in each stage; the depth is 3 * sum + 2
    widths: tuple[int, int, int, int] = (
        64,
        128,
        256,
        512,
    )  # of the 3x3 convolutions; the first also the stem's


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution and a shortcut around them; the 3x3 has the stride."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = _EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, after the ReLU."""
        out = self.bn1(self.conv1(x)).relu_()
        out = self.bn2(self.conv2(out)).relu_()
        out = self.bn3(self.conv3(out)) + self.shortcut(x)
        activated: Tensor = out.relu_()
        return activated


class CifarBottleneckResNet(PooledNetwork):
    """A residual network of four stages of bottleneck blocks."""

    classifier_name: ClassVar[str] = "linear"
    first_conv: ClassVar[str] = "conv1"
    published_places: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)  # the stages', after the ReLU

    def __init__(
        self, spec: BottleneckSpec, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
    ) -> None:
        num_features = _EXPANSION * spec.widths[-1]
        super().__init__(num_features, num_classes=num_classes, drop_rate=drop_rate)
        channels = spec.widths[0]
        self.conv1 = nn.Conv2d(in_chans, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = _bottleneck_stage(channels, spec.widths[0], spec.blocks[0], stride=1)
        self.layer2 = _bottleneck_stage(_EXPANSION * spec.widths[0], spec.widths[1], spec.blocks[1], stride=2)
        self.layer3 = _bottleneck_stage(_EXPANSION * spec.widths[1], spec.widths[2], spec.blocks[2], stride=2)
        self.layer4 = _bottleneck_stage(_EXPANSION * spec.widths[2], spec.widths[3], spec.blocks[3], stride=2)
        self.linear = linear_layer(num_features, num_classes)
        he_normal(self)

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map, and those of the stem and of each stage, of normalised images."""
        maps = [self.bn1(self.conv1(x)).relu_()]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            maps.append(stage(maps[-1]))
        return maps[-1], maps


def _bottleneck_stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    later = [Bottleneck(_EXPANSION * channels, channels, 1) for _ in range(1, blocks)]
    return nn.Sequential(Bottleneck(in_channels, channels, stride), *later)


BOTTLENECK_RESNETS: dict[str, BottleneckSpec] = {"resnet50": BottleneckSpec((3, 4, 6, 3))}

__all__ = ["BOTTLENECK_RESNETS", "Bottleneck", "BottleneckSpec", "CifarBottleneckResNet"]
