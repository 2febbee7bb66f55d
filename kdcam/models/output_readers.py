"""How the parts of a network that speaks timm's interface are told apart: timm's own networks and kdcam's."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdcam.models.classifier import Outputs, Reader
from kdcam.models.heads import Head
from kdcam.models.necks import Necked, NeckOutputs


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
    places: tuple[int, ...] = getattr(body, "published_places", ())
    return tuple(maps[place] for place in places)


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


__all__ = ["earlier_maps", "published_maps", "read_linear_head", "read_other_head", "reader_for"]
