"""The wide residual networks for 32-pixel images: norm and ReLU stand before the convolutions.

Architecture and parameter names are those of HobbitLong/RepDistiller (models/wrn.py at commit eedab9d); after
Zagoruyko and Komodakis 2016 (arXiv 1605.07146). A block whose width changes has a 1x1 shortcut that reads the
activated map; of the others the shortcut is the map as it is. The last map is the one after the last norm and
ReLU, since that is what is pooled.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from kdcam.models.networks.pooled_network import PooledNetwork, he_normal, linear_layer

_STEM = 16  # channels


class WideSpec(NamedTuple):
    """What tells one of these networks from another."""

    depth: int  # 6 * blocks of a stage + 4
    widen: int  # the stages have 16, 32 and 64 times as many channels


class WideBlock(nn.Module):
    """Norm, ReLU and 3x3 convolution, twice, and a shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convShortcut: nn.Module | None = None  # spelt as in the checkpoints
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's map, a sum with no activation after it."""
        activated = self.bn1(x).relu_()
        out = self.bn2(self.conv1(activated)).relu_()
        shortcut: Tensor = x if self.convShortcut is None else self.convShortcut(activated)
        total: Tensor = shortcut + self.conv2(out)
        return total


class WideStage(nn.Module):
    """Blocks one after the other; the first one has the stride and changes the width."""

    def __init__(self, in_channels: int, channels: int, blocks: int, *, stride: int) -> None:
        super().__init__()
        later = [WideBlock(channels, channels, 1) for _ in range(1, blocks)]
        self.layer = nn.Sequential(WideBlock(in_channels, channels, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        """Return the last block's map."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(PooledNetwork):
    """A wide residual network of three stages."""

    classifier_name: ClassVar[str] = "fc"
    first_conv: ClassVar[str] = "conv1"
    published_indices: ClassVar[tuple[int, ...]] = (1, 2, 3)  # the stages' sums, before any norm

    def __init__(
        self, spec: WideSpec, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
    ) -> None:
        first, second, third = (factor * spec.widen for factor in (16, 32, 64))
        blocks = (spec.depth - 4) // 6
        super().__init__(third, num_classes=num_classes, drop_rate=drop_rate)
        self.conv1 = nn.Conv2d(in_chans, _STEM, 3, padding=1, bias=False)
        self.block1 = WideStage(_STEM, first, blocks, stride=1)
        self.block2 = WideStage(first, second, blocks, stride=2)
        self.block3 = WideStage(second, third, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(third)
        self.fc = linear_layer(third, num_classes)
        he_normal(self)
        if isinstance(self.fc, nn.Linear):
            nn.init.zeros_(self.fc.bias)

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map, and the stem's, those of the stages before any norm, and it, of normalised images."""
        maps = [self.conv1(x)]
        for stage in (self.block1, self.block2, self.block3):
            maps.append(stage(maps[-1]))
        last: Tensor = self.bn1(maps[-1]).relu_()
        return last, [*maps, last]


WIDE_RESNETS: dict[str, WideSpec] = {
    f"wrn_{depth}_{widen}": WideSpec(depth, widen) for depth in (16, 40) for widen in (1, 2)
}

__all__ = ["WIDE_RESNETS", "WideBlock", "WideResNet", "WideSpec", "WideStage"]
