"""How the parts of a network that speaks timm's interface are told apart: timm's own networks and kdcam's."""

from typing import Any

import torch
from torch import Tensor, nn

from kdcam.models.classifier import Outputs, Reader
from kdcam.models.heads import Head
from kdcam.models.necks import Necked, NeckOutputs


def reader_for(network: nn.Module) -> Reader:
    """Return the reader that fits a network's head."""
    return read_linear_head if _has_linear_head(network) else read_other_head


def read_linear_head(network: Any, images: Tensor) -> Outputs:
    """Return the outputs of a network whose logits are one linear layer of the embedding, or a `Head` of it.

    The head runs once, so that a dropout in it is the same for embedding and logits.
    """
    features, attention = _features(network, images)
    embedding = network.forward_head(features, pre_logits=True)
    classifier = network.get_classifier()
    if isinstance(classifier, Head):
        read, feature_map = classifier.read(embedding), _as_map(network, features)
        if feature_map is not None and read.lengths is not None:
            # Divided as the embedding is, so that the mean of a class's map is its logit.
            feature_map = feature_map / read.lengths[:, None, None, None]
        return Outputs(
            read.logits, read.embedding, feature_map, read.weight, read.bias, channel_attention=attention
        )
    return Outputs(
        classifier(embedding),
        embedding,
        _as_map(network, features),
        classifier.weight,
        classifier.bias,
        channel_attention=attention,
    )


def read_other_head(network: Any, images: Tensor) -> Outputs:
    """Return the outputs of a network with any other head: no weight, and the head runs a second time."""
    features, attention = _features(network, images)
    logits = network.forward_head(features)
    embedding = _as_embedding(network.forward_head(features, pre_logits=True))
    return Outputs(logits, embedding, _as_map(network, features), None, None, channel_attention=attention)


def _features(network: Any, images: Tensor) -> NeckOutputs:
    if isinstance(network, Necked):
        return network.necked_features(images)
    return NeckOutputs(network.forward_features(images), None)


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


__all__ = ["read_linear_head", "read_other_head", "reader_for"]
