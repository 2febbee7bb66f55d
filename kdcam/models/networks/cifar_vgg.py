"""The VGG networks for 32-pixel images: with batch norm, and a single linear layer after global average pooling.

Architecture and parameter names are those of HobbitLong/RepDistiller (models/vgg.py at commit eedab9d, its
``vgg8_bn`` ... ``vgg19_bn``); after Simonyan and Zisserman 2014 (arXiv 1409.1556), vgg8 with one convolution a
block. A maximum pooling stands between the blocks but the last two; of images of 64 pixels and more it stands
there too (RepDistiller: of 64 exactly), so that the last map has 1/8 or 1/16 of the image's height. The last map
is the one after the last ReLU.
"""

from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from kdcam.models.networks.pooled_network import PooledNetwork, he_normal, linear_layer

_WIDTHS = (64, 128, 256, 512, 512)
_LARGE = 64  # pixels


class VggSpec(NamedTuple):
    """What tells one of these networks from another."""

    convolutions: tuple[int, int, int, int, int]  # in each block


class CifarVgg(PooledNetwork):
    """A VGG network of five blocks."""

    classifier_name: ClassVar[str] = "classifier"
    first_conv: ClassVar[str] = "block0.0"
    published_indices: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)  # the later blocks', after the ReLU

    def __init__(
        self, spec: VggSpec, *, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0
    ) -> None:
        super().__init__(_WIDTHS[-1], num_classes=num_classes, drop_rate=drop_rate)
        self.block0 = _block(in_chans, _WIDTHS[0], spec.convolutions[0])
        self.block1 = _block(_WIDTHS[0], _WIDTHS[1], spec.convolutions[1])
        self.block2 = _block(_WIDTHS[1], _WIDTHS[2], spec.convolutions[2])
        self.block3 = _block(_WIDTHS[2], _WIDTHS[3], spec.convolutions[3])
        self.block4 = _block(_WIDTHS[3], _WIDTHS[4], spec.convolutions[4])
        self.late_pooling = LatePooling()
        self.classifier = linear_layer(_WIDTHS[-1], num_classes)
        he_normal(self)
        if isinstance(self.classifier, nn.Linear):
            nn.init.normal_(self.classifier.weight, std=0.01)
            nn.init.zeros_(self.classifier.bias)

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the last map, and that of each block before its pooling, of normalised images."""
        maps = [self.block0(x).relu_()]
        for block in (self.block1, self.block2, self.block3):
            maps.append(block(nn.functional.max_pool2d(maps[-1], 2)).relu_())
        maps.append(self.block4(self.late_pooling(maps[-1], x)).relu_())
        return maps[-1], maps


class LatePooling(nn.Module):
    """The pooling before the last block, of large images alone; a module, since tracing cannot follow a choice."""

    def forward(self, feature_map: Tensor, images: Tensor) -> Tensor:
        """Return the map (N, C, H, W), halved where the images have 64 pixels or more."""
        return nn.functional.max_pool2d(feature_map, 2) if images.shape[2] >= _LARGE else feature_map


def _block(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
    """Return 3x3 convolutions with batch norm and ReLU, without the last ReLU."""
    layers: list[nn.Module] = []
    for index in range(convolutions):
        convolution = nn.Conv2d(in_channels if index == 0 else channels, channels, 3, padding=1)
        layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


CIFAR_VGGS: dict[str, VggSpec] = {
    "vgg8": VggSpec((1, 1, 1, 1, 1)),
    "vgg11": VggSpec((1, 1, 2, 2, 2)),
    "vgg13": VggSpec((2, 2, 2, 2, 2)),
    "vgg16": VggSpec((2, 2, 3, 3, 3)),
    "vgg19": VggSpec((2, 2, 4, 4, 4)),
}

__all__ = ["CIFAR_VGGS", "CifarVgg", "LatePooling", "VggSpec"]
