"""The residual networks for 32-pixel images, of basic and of bottleneck blocks."""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from kdcam.models.networks.pooled_network import PooledNetwork, he_normal, linear_layer

_EXPANSION = 4  # output channels of a bottleneck block for each channel of its 3x3 convolution


class CifarSpec(NamedTuple):
    """What tells one network of basic blocks from another."""

    blocks: int  # in each of the three stages; the depth is 6 * blocks + 2
    widths: tuple[int, int, int, int]  # channels of the stem and of the three stages
    stem_stride: int = 1


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, after the ReLU."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        activated: Tensor = self.relu(out + shortcut)
        return activated


class CifarResNet(PooledNetwork):
    """A residual network of three stages of basic blocks, on which the distillation literature compares.

    Architecture and parameter names are those of HobbitLong/RepDistiller (models/resnet.py at commit eedab9d), so
    that its checkpoints fit: three stages of basic blocks after a 3x3 stem (He et al. 2016, arXiv 1512.03385,
    section 4.2), shortcuts with a 1x1 convolution where the width or the stride changes. The last map is the one
    after the ReLU, and the pooling is global, so that any image size works.

    Names with ``_s2`` have a stem of stride 2: four to five times faster, good for a CPU; they are kdcam's choice
    as is resnet8w_s2.
    """

    classifier_name: ClassVar[str] = "fc"
    first_conv: ClassVar[str] = "conv1"
    published_indices: ClassVar[tuple[int, ...]] = (1, 2, 3)  # the stages', after the ReLU

    def __init__(
        self, spec: CifarSpec, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
    ) -> None:
        stem, first, second, third = spec.widths
        super().__init__(third, num_classes=num_classes, drop_rate=drop_rate)
        self.conv1 = nn.Conv2d(in_chans, stem, 3, spec.stem_stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(stem, first, spec.blocks, stride=1)
        self.layer2 = _stage(first, second, spec.blocks, stride=2)
        self.layer3 = _stage(second, third, spec.blocks, stride=2)
        self.fc = linear_layer(third, num_classes)
        he_normal(self)

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map, and those of the stem and of each stage, of normalised images."""
        maps = [self.relu(self.bn1(self.conv1(x)))]
        for stage in (self.layer1, self.layer2, self.layer3):
            maps.append(stage(maps[-1]))
        return maps[-1], maps


def _stage(in_channels: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    later = [BasicBlock(channels, channels, 1) for _ in range(1, blocks)]
    return nn.Sequential(BasicBlock(in_channels, channels, stride), *later)


def _literature() -> dict[str, CifarSpec]:
    narrow, wide = (16, 16, 32, 64), (32, 64, 128, 256)
    specs = {f"resnet{depth}": CifarSpec((depth - 2) // 6, narrow) for depth in (8, 14, 20, 32, 44, 56, 110)}
    return specs | {f"resnet{depth}x4": CifarSpec((depth - 2) // 6, wide) for depth in (8, 32)}


CIFAR_RESNETS: dict[str, CifarSpec] = _literature()
FAST_RESNETS: dict[str, CifarSpec] = {
    **{f"{name}_s2": spec._replace(stem_stride=2) for name, spec in CIFAR_RESNETS.items()},
    "resnet8w_s2": CifarSpec(1, (32, 32, 64, 128), stem_stride=2),
}


class BottleneckSpec(NamedTuple):
    """What tells one network of bottleneck blocks from another."""

    blocks: tuple[int, int, int, int]  # in each stage; the depth is 3 * sum + 2
    # Of the 3x3 convolutions; the first also the stem's.
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)


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
    """A residual network of four stages of bottleneck blocks: the literature's largest teacher, ResNet50.

    Architecture and parameter names are those of HobbitLong/RepDistiller (models/resnetv2.py at commit eedab9d):
    four stages after a 3x3 stem of stride 1 without pooling, so that its last map is 4x4 where an ImageNet ResNet-50
    (He et al. 2016, arXiv 1512.03385, table 1) would have 1x1. The last map is the one after the ReLU.
    """

    classifier_name: ClassVar[str] = "linear"
    first_conv: ClassVar[str] = "conv1"
    published_indices: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)  # the stages', after the ReLU

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

__all__ = [
    "BOTTLENECK_RESNETS",
    "CIFAR_RESNETS",
    "FAST_RESNETS",
    "BasicBlock",
    "Bottleneck",
    "BottleneckSpec",
    "CifarBottleneckResNet",
    "CifarResNet",
    "CifarSpec",
]
