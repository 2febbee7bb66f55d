"""What may stand between a network's last map and its pooling: a 1x1 convolution, a channel-attention block."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdcam.errors import ModelError
from kdcam.models.classifier import translate_image_errors
from kdcam.models.heads import logits_layer_name
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import wide


class NeckOutputs(NamedTuple):
    """What a neck makes of a map."""

    feature_map: Tensor  # (N, C, H, W)
    channel_attention: Tensor | None  # (N, C) in (0, 1); None without the block


class ChannelAttention(nn.Module):
    """The squeeze-and-excitation block's attention, one factor in (0, 1) a channel.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks" (arXiv 1709.01507), equations 2 and 3.
    """

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Linear(channels, hidden)
        self.excite = nn.Linear(hidden, channels)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return the attention (N, C) of a map (N, C, H, W)."""
        with torch.autocast(feature_map.device.type, enabled=False):  # half precision blurs values about 0.5
            pooled = wide(feature_map.mean((2, 3)))
            return torch.sigmoid(self.excite(torch.relu(self.squeeze(pooled))))


class Neck(nn.Module):
    """A 1x1 convolution to another channel count, then a channel-attention block; either may be absent."""

    def __init__(self, channels: int, *, feature_channels: int | None, reduction: int | None) -> None:
        super().__init__()
        # Normalised and rectified like the block before it: the bare convolution and the classifier behind the
        # pooling would be one linear map.
        self.convolution: nn.Sequential | None = None
        if feature_channels is not None:
            pointwise = nn.Conv2d(channels, feature_channels, 1, bias=False)
            nn.init.kaiming_normal_(pointwise.weight, mode="fan_out", nonlinearity="relu")
            self.convolution = nn.Sequential(
                pointwise, nn.BatchNorm2d(feature_channels), nn.ReLU(inplace=True)
            )
        self.attention: ChannelAttention | None = None
        if reduction is not None:
            self.attention = ChannelAttention(feature_channels or channels, reduction=reduction)

    def forward(self, feature_map: Tensor) -> NeckOutputs:
        """Return the new map and its attention; the map is multiplied by the attention."""
        if self.convolution is not None:
            feature_map = self.convolution(feature_map)
        if self.attention is None:
            return NeckOutputs(feature_map, None)
        attention = self.attention(feature_map)
        return NeckOutputs(feature_map * attention.to(feature_map.dtype)[:, :, None, None], attention)


# Why a neck is part of the network: docs/decisions/009.
class Necked(nn.Module):
    """A network with a neck between its features and its head; speaks timm's interface as the network does."""

    output_fmt = "NCHW"

    def __init__(self, body: nn.Module, neck: Neck) -> None:
        super().__init__()
        self.body: Any = body  # timm's interface is untyped
        self.neck = neck

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last map (N, C, H, W) of normalised images."""
        necked: NeckOutputs = self.neck(self.body.forward_features(images))
        return necked.feature_map

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits (N, K) of a last map; ``pre_logits``: the embedding (N, E) instead."""
        head: Tensor = self.body.forward_head(features, pre_logits=pre_logits)
        return head

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of normalised images."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Return the layer that gives the logits."""
        classifier: nn.Module = self.body.get_classifier()
        return classifier


def add_neck(
    network: Any,
    *,
    name: str,
    linear_head: bool,
    image_shape: tuple[int, int, int],
    feature_channels: int | None,
    reduction: int | None,
) -> Necked:
    """Return a network with a neck; a 1x1 convolution gets a fresh classifier behind it.

    Args:
        network: speaks timm's interface.
        name: of the network, for messages.
        linear_head: whether the logits are one linear layer of the embedding.
        image_shape: (C, H, W) of the images that it will read.
        feature_channels: of the map that the head gets; None: as the network has it.
        reduction: of the channel-attention block; None: no block.

    Raises ``ModelError`` where the network has no (N, C, H, W) map, or where another channel count does not
    fit its head, which must be global average pooling and one linear layer.
    """
    with eval_mode(network), torch.no_grad(), torch.random.fork_rng(devices=[]):
        image = torch.rand(1, *image_shape, generator=torch.Generator().manual_seed(0))
        with translate_image_errors(name, image_shape):
            features = network.forward_features(image)
        channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
        if not isinstance(features, Tensor) or features.ndim != 4 or channels_last:
            raise ModelError(
                f"model.name: {name!r} has no (N, C, H, W) map for model.channel_attention or "
                "model.feature_channels to work on; take a convolutional network (kdcam:resnet20, resnet18)"
            )
        pools_only = linear_head and _pools_only(network, features)
    channels = features.shape[1]
    if feature_channels is not None:
        if not pools_only:
            raise ModelError(
                f"model.feature_channels: {name!r} has more than global average pooling and one linear layer "
                "behind its last map, which fits no other channel count; take kdcam:resnet20 or resnet18, or "
                "leave the key out"
            )
        _replace_classifier(network, feature_channels)
    return Necked(network, Neck(channels, feature_channels=feature_channels, reduction=reduction))


def _pools_only(network: Any, features: Tensor) -> bool:
    embedding = network.forward_head(features, pre_logits=True)
    pooled = features.mean((2, 3))
    return embedding.shape == pooled.shape and torch.allclose(embedding, pooled, rtol=1e-3, atol=1e-4)


def _replace_classifier(network: nn.Module, channels: int) -> None:
    name = logits_layer_name(network)
    assert name is not None
    old = network.get_submodule(name)
    assert isinstance(old, nn.Linear)
    network.set_submodule(name, nn.Linear(channels, old.out_features, bias=old.bias is not None))


__all__ = ["ChannelAttention", "Neck", "NeckOutputs", "Necked", "add_neck"]
