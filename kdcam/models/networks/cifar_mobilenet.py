"""MobileNetV2 at half width for 32-pixel images, a student of the distillation literature.

Architecture and parameter names are those of HobbitLong/RepDistiller (models/mobilenetv2.py at commit b13aecc,
its ``mobile_half``: expansion 6, width 0.5), after Sandler et al. 2018 (arXiv 1801.04381). It differs from the
paper: ReLU for ReLU6, a second stage without stride, and the last convolution keeps its 1280 channels. The stem
already halves the image, so that the last map of 32 pixels is 2x2; it is the one after the ReLU of that last
convolution. The maps of the stages have no activation (linear bottlenecks).
"""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from kdcam.models.networks.pooled_network import PooledNetwork, he_normal, linear_layer

_LAST = 1280  # channels of the last map, at any width up to 1


class MobileStage(NamedTuple):
    """Inverted residual blocks of one width."""

    expansion: int
    channels: int  # at width 1
    blocks: int
    stride: int  # of the first block


class MobileSpec(NamedTuple):
    """What tells one of these networks from another."""

    width: float
    expansion: int = 6

    def stages(self) -> tuple[MobileStage, ...]:
        """Return the seven stages, their channels at this width."""
        at_full_width = (
            MobileStage(1, 16, 1, 1),
            MobileStage(self.expansion, 24, 2, 1),
            MobileStage(self.expansion, 32, 3, 2),
            MobileStage(self.expansion, 64, 4, 2),
            MobileStage(self.expansion, 96, 3, 1),
            MobileStage(self.expansion, 160, 3, 2),
            MobileStage(self.expansion, 320, 1, 1),
        )
        return tuple(stage._replace(channels=int(stage.channels * self.width)) for stage in at_full_width)


class InvertedResidual(nn.Module):
    """Widen (1x1), filter each channel (3x3), narrow (1x1); a shortcut where the size stays."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            *_conv_norm_relu(in_channels, wide, 1),
            *_conv_norm_relu(wide, wide, 3, stride=stride, groups=wide),
            nn.Conv2d(wide, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, without an activation."""
        out: Tensor = self.conv(x)
        return x + out if self.has_shortcut else out


class CifarMobileNetV2(PooledNetwork):
    """A MobileNetV2 of seven stages."""

    classifier_name: ClassVar[str] = "classifier.0"
    first_conv: ClassVar[str] = "conv1.0"
    published_indices: ClassVar[tuple[int, ...]] = (2, 3, 5, 7)  # of the second, third, fifth and last stage

    def __init__(
        self, spec: MobileSpec, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
    ) -> None:
        super().__init__(_LAST, num_classes=num_classes, drop_rate=drop_rate)
        channels = int(32 * spec.width)
        self.conv1 = nn.Sequential(*_conv_norm_relu(in_chans, channels, 3, stride=2))
        self.blocks = nn.ModuleList()
        for stage in spec.stages():
            self.blocks.append(_stage(channels, stage))
            channels = stage.channels
        self.conv2 = nn.Sequential(*_conv_norm_relu(channels, _LAST, 1))
        classifier = linear_layer(_LAST, num_classes)
        self.classifier = nn.Sequential(classifier)
        he_normal(self)
        if isinstance(classifier, nn.Linear):
            nn.init.normal_(classifier.weight, std=0.01)
            nn.init.zeros_(classifier.bias)

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map, and those of the stem and of each stage and it, of normalised images."""
        maps = [self.conv1(x)]
        for stage in self.blocks:
            maps.append(stage(maps[-1]))
        last: Tensor = self.conv2(maps[-1])
        return last, [*maps, last]


def _stage(in_channels: int, stage: MobileStage) -> nn.Sequential:
    first = InvertedResidual(in_channels, stage.channels, stride=stage.stride, expansion=stage.expansion)
    later = [
        InvertedResidual(stage.channels, stage.channels, stride=1, expansion=stage.expansion)
        for _ in range(1, stage.blocks)
    ]
    return nn.Sequential(first, *later)


def _conv_norm_relu(
    in_channels: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(
        in_channels, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]


CIFAR_MOBILENETS: dict[str, MobileSpec] = {"mobilenetv2": MobileSpec(0.5)}

__all__ = ["CIFAR_MOBILENETS", "CifarMobileNetV2", "InvertedResidual", "MobileSpec", "MobileStage"]
