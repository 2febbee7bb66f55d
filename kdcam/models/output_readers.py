"""Reads the outputs of networks that speak timm's interface, timm's own and kdcam's: their parts are told apart.

A map is also found for networks that have none before a global pooling: their last tokens, laid out as a grid.
"""

import copy
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdcam.errors import ModelError
from kdcam.models.classifier import Classifier, Outputs, Reader, translate_image_errors
from kdcam.models.heads import Head
from kdcam.models.necks import Necked, NeckOutputs
from kdcam.runtime.eval_mode import eval_mode

_TOLERANCE = 1e-4  # of the largest logit; rounding alone gives about 1e-6

ReadOutputs = Callable[[nn.Module, Tensor], Outputs]
"""Takes a bare network and normalised images."""


def reader_for(network: nn.Module) -> Reader:
    """Return the reader that fits a network's head."""
    return read_linear_head if _has_linear_head(network) else read_other_head


def read_linear_head(network: Any, images: Tensor, /, *, stages: bool) -> Outputs:
    """Return the outputs of a network whose logits are one linear layer of the embedding, or a `Head` of it.

    The head runs once, so that a dropout in it is the same for embedding and logits.
    """
    features, others = _features(network, images, stages=stages)
    embedding = network.forward_head(features, pre_logits=True)
    classifier = network.get_classifier()
    if isinstance(classifier, Head):
        read, feature_map = classifier.read(embedding), _as_map(network, features)
        if feature_map is not None and read.lengths is not None:
            # Divided as the embedding is, so that the mean of a class's map is its logit.
            feature_map = feature_map / read.lengths[:, None, None, None]
        return Outputs(read.logits, read.embedding, feature_map, read.weight, read.bias, **others._asdict())
    return Outputs(
        classifier(embedding),
        embedding,
        _as_map(network, features),
        classifier.weight,
        classifier.bias,
        **others._asdict(),
    )


def read_other_head(network: Any, images: Tensor, /, *, stages: bool) -> Outputs:
    """Return the outputs of a network with any other head: no weight, and the head runs a second time."""
    features, others = _features(network, images, stages=stages)
    logits = network.forward_head(features)
    embedding = _as_embedding(network.forward_head(features, pre_logits=True))
    return Outputs(logits, embedding, _as_map(network, features), None, None, **others._asdict())


class _Others(NamedTuple):
    """What a body and its neck tell beside the features, under the names of `Outputs`."""

    stages: tuple[Tensor, ...] = ()
    channel_attention: Tensor | None = None
    published_stages: tuple[Tensor, ...] = ()


def _features(network: Any, images: Tensor, *, stages: bool) -> tuple[Any, _Others]:
    """Return what the head reads, and what is told beside it."""
    body = network.body if isinstance(network, Necked) else network
    others = _Others()
    if stages and hasattr(body, "forward_intermediates"):
        features, maps = body.forward_intermediates(images)
        if _as_map(body, features) is not None:
            others = _Others(stages=earlier_maps(maps, features), published_stages=published_maps(body, maps))
    else:
        features = body.forward_features(images)
    if isinstance(network, Necked):
        necked: NeckOutputs = network.neck(features)
        return necked.feature_map, others._replace(channel_attention=necked.channel_attention)
    return features, others


def published_maps(body: nn.Module, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return of the maps of ``forward_intermediates`` those that published tables compare; none where none are."""
    indices: tuple[int, ...] = getattr(body, "published_indices", ())
    return tuple(maps[index] for index in indices)


def earlier_maps(maps: Sequence[Tensor], last: Tensor) -> tuple[Tensor, ...]:
    """Return of maps (N, C, H, W), shallow to deep, the last of each height and width but those of ``last``'s."""
    following = [*maps[1:], last]
    return tuple(
        one
        for one, other in zip(maps, following, strict=True)
        if one.shape[2:] != other.shape[2:] and one.shape[2:] != last.shape[2:]
    )


def _has_linear_head(network: Any) -> bool:
    """Return whether nothing but one linear layer stands between ``forward_head``'s embedding and the logits.

    VOLO adds the logits of a second head. Where a pooled vector is normalised (EfficientViT-MSRA, SHViT),
    timm counts the BatchNorm1d to the classifier, and the linear layer that it names is only the rest of it.
    """
    if getattr(network, "aux_head", None) is not None:
        return False
    if any(isinstance(module, nn.BatchNorm1d) for module in network.modules()):
        return False
    return isinstance(network.get_classifier(), nn.Linear)


def _as_map(network: nn.Module, features: object) -> Tensor | None:
    """Return features that are a (N, C, H, W) map, else None: tokens, several maps, channels last (Swin)."""
    channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
    return features if isinstance(features, Tensor) and features.ndim == 4 and not channels_last else None


def _as_embedding(embedding: Any) -> Tensor:
    """Return one (N, E) row an image, also of a head that keeps 1 x 1 maps or several branches."""
    if isinstance(embedding, Tensor):
        return embedding.flatten(1)
    return torch.cat([part.flatten(1) for part in embedding], dim=1)


@dataclass(frozen=True)
class SpatialReader:
    """Reads outputs whose map is there also for networks of tokens, and lies between images and logits."""

    classifier: Classifier
    what: str | None  # in words, what of the network its map is; None: it is `Outputs.feature_map`
    channels: int
    height: int
    width: int
    _read: ReadOutputs | None

    def __call__(self, images: Tensor) -> Outputs:
        """Return the outputs of images (N, C, S, S) in [0, 1], with a map (N, C, H, W) that gradients can be of.

        Of tokens no gradient reaches the images: what is before the map is computed without.
        """
        if self._read is None:
            return self.classifier.outputs(images)
        return self._read(self.classifier.network, self.classifier.normalise(images))


def spatial_reader(classifier: Classifier) -> SpatialReader:
    """Return what reads the maps of a network, found and proven with two random images in eval mode.

    `Outputs.feature_map` stays None for networks of tokens, since no loss on activation maps is defined for them; only
    explanations by gradients (Grad-CAM, HiResCAM) read what is made here.

    Tried are, where there is no feature map: the last features, as channels-last maps (Swin) or as a square grid of
    tokens (MLP-Mixer, Twins, ViT with average pooling); and where the classifier reads no more of them than a class
    token (ViT, DeiT), what the last attention reads, which is where the class token last looks at the others.

    Raises ``ModelError`` where none of these is there.
    """
    device = classifier.mean.device
    shape = (2, classifier.in_channels, classifier.image_size, classifier.image_size)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    with (
        torch.inference_mode(False),
        eval_mode(classifier),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.autocast(device.type, enabled=False),
        translate_image_errors(classifier.config.name, shape[1:]),
    ):
        with torch.no_grad():
            outputs = classifier.outputs(images)
        if outputs.feature_map is not None:
            channels, height, width = outputs.feature_map.shape[1:]
            return SpatialReader(classifier, None, channels, height, width, None)
        normalised = classifier.normalise(images)
        for what, read in _READS.items():
            size = _proven(read, classifier.network, normalised, outputs.logits)
            if size is not None:
                return SpatialReader(classifier, what, *size, read)
    raise ModelError(
        f"model.name: {classifier.config.name!r} has neither a (N, C, H, W) map before a global pooling nor a grid of "
        "tokens that its classifier reads, so no map of it can be shown; take a convolutional network, or timm's ViT, "
        "Swin or MLP-Mixer"
    )


def _proven(
    read: ReadOutputs, network: nn.Module, images: Tensor, logits: Tensor
) -> tuple[int, int, int] | None:
    """Return the size of the map (C, H, W); None where it cannot be read, or the classifier does not read it."""
    try:
        with torch.enable_grad():
            outputs = read(network, images)
            assert outputs.feature_map is not None
            # The embedding, since a fresh classifier may be all zeros.
            (gradient,) = torch.autograd.grad(
                outputs.embedding.square().sum(), outputs.feature_map, allow_unused=True
            )
    except Exception:  # code of other networks, which was not made for this and may raise anything
        return None
    same = (outputs.logits - logits).abs().max() <= _TOLERANCE * logits.abs().max()
    if not same or gradient is None or not gradient.any():
        return None
    channels, height, width = outputs.feature_map.shape[1:]
    return channels, height, width


def _by_last_features(network: Any, images: Tensor) -> Outputs:
    with torch.no_grad():
        features = network.forward_features(images)
    tokens = _tokens(network, features)
    return _head(network, tokens.joined(), tokens.grid)


def _by_last_block(network: Any, images: Tensor) -> Outputs:
    """Return the outputs of a network of timm's VisionTransformer kind, whose map is what its last attention reads.

    These are the block's tokens behind its first normalisation, as jacobgil/pytorch-grad-cam takes them: of tokens
    before it, which it scales to one length, HiResCAM is 0 everywhere.
    """
    blocks = network.blocks
    if "return_prefix_tokens" not in inspect.signature(network.forward_intermediates).parameters:
        raise TypeError("forward_intermediates gives no prefix tokens")
    with torch.no_grad():
        ((rows, prefix),) = network.forward_intermediates(
            images,
            indices=[len(blocks) - 2],
            return_prefix_tokens=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        before = rows if prefix is None else torch.cat([prefix, rows], dim=1)
        read = blocks[-1].norm1(before)
    tokens = _tokens(network, read)
    return _head(network, network.norm(_with_norm1(blocks[-1], _Given(tokens.joined()))(before)), tokens.grid)


class _Given(nn.Module):
    """Stands in the place of a normalisation whose output is known."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, before: Tensor) -> Tensor:
        """Return the output that is known."""
        del before
        return self.output


def _with_norm1(block: nn.Module, norm: nn.Module) -> nn.Module:
    """Return a block with another first normalisation; all else is shared, and the block stays as it is."""
    other = copy.copy(block)
    other._modules = {**block._modules, "norm1": norm}
    return other


_READS: dict[str, ReadOutputs] = {
    "its last tokens": _by_last_features,
    "the tokens that its last attention reads": _by_last_block,
}


class _Tokens(NamedTuple):
    grid: Tensor  # (N, C, H, W), a leaf
    prefix: Tensor | None  # (N, P, C), such as a class token
    channels_last: bool  # the network has maps (N, H, W, C)

    def joined(self) -> Tensor:
        """Return the features as the network has them."""
        if self.channels_last:
            return self.grid.permute(0, 2, 3, 1)
        rows = self.grid.flatten(2).transpose(1, 2)
        return rows if self.prefix is None else torch.cat([self.prefix, rows], dim=1)


def _tokens(network: nn.Module, features: Tensor) -> _Tokens:
    if features.ndim == 4:  # (N, C, H, W) would have been a feature map
        return _Tokens(_leaf(features.permute(0, 3, 1, 2)), None, True)
    count = int(getattr(network, "num_prefix_tokens", None) or 0)
    images, length, channels = features.shape
    side = math.isqrt(length - count)
    if side < 2 or side * side != length - count:
        raise ValueError(f"{length - count} tokens are no square grid")
    rows = features[:, count:].transpose(1, 2)
    return _Tokens(
        _leaf(rows.reshape(images, channels, side, side)), features[:, :count] if count else None, False
    )


def _leaf(grid: Tensor) -> Tensor:
    return grid.detach().contiguous().requires_grad_(torch.is_grad_enabled())


def _head(network: Any, features: Tensor, grid: Tensor) -> Outputs:
    embedding = network.forward_head(features, pre_logits=True).flatten(1)
    return Outputs(network.forward_head(features), embedding, grid, None, None)


__all__ = [
    "SpatialReader",
    "earlier_maps",
    "published_maps",
    "read_linear_head",
    "read_other_head",
    "reader_for",
    "spatial_reader",
]
