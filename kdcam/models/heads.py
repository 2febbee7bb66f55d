"""Classifiers whose weights are directions or class means: what losses on angles and distances are made for.

Each gives logits that are linear in what it reads, so that a class activation map stays exact: the mean over the
positions of the map's product with the weights, plus the bias, is the logit. A margin is never here but in the loss,
so that evaluation, maps, teachers and attacks see the plain logits.
"""

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcam.errors import ModelError
from kdcam.models.model_config import HeadKind
from kdcam.runtime.numerics import unit_rows, wide

_SHORTEST = 1e-6  # a shorter embedding has no direction to speak of; kdcam's choice
_SHORT_ROW = 1e-2  # of starting weights; kdcam's choice


class HeadOutputs(NamedTuple):
    """What a head makes of embeddings; ``logits = embedding @ weight.T + bias``."""

    logits: Tensor  # (N, K)
    embedding: Tensor  # (N, E), what the weight multiplies
    weight: Tensor  # (K, E)
    bias: Tensor | None  # (K,)
    lengths: Tensor | None  # (N,) that the embedding was divided by; None: it was not


# Why heads hold no margin: docs/decisions/012.
class Head(nn.Module):
    """A linear layer's place with weights of a given form; works in float32 under autocast too."""

    reads_direction: ClassVar[bool] = False
    """Whether only the embedding's direction counts, not its length."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())  # (K, E)

    def linear(self) -> tuple[Tensor, Tensor | None]:
        """Return the weight (K, E) and bias (K,) that stand for this head."""
        raise NotImplementedError

    def read(self, embedding: Tensor) -> HeadOutputs:
        """Return logits and parts of embeddings (N, E)."""
        with torch.autocast(embedding.device.type, enabled=False):
            embedding, lengths = wide(embedding), None
            if self.reads_direction:
                lengths = torch.linalg.vector_norm(embedding, dim=1).clamp(min=_SHORTEST)
                embedding = embedding / lengths[:, None]
            weight, bias = self.linear()
            return HeadOutputs(F.linear(embedding, weight, bias), embedding, weight, bias, lengths)

    def forward(self, embedding: Tensor) -> Tensor:
        """Return the logits (N, K) of embeddings (N, E)."""
        return self.read(embedding).logits


class CosineHead(Head):
    """Logits are ``scale`` times the cosine of the angle between embedding and class weight.

    Source: Wang et al. 2017, "NormFace" (arXiv 1704.06369), without its learned scale.
    """

    reads_direction = True

    def __init__(self, weight: Tensor, *, scale: float) -> None:
        super().__init__(weight)
        self.scale = scale

    def linear(self) -> tuple[Tensor, Tensor | None]:
        """Return ``scale`` times the unit weights."""
        return self.scale * unit_rows(self.weight), None


class UnitWeightHead(Head):
    """Logits are the embedding's length times the cosine: weights of length 1 and no bias.

    Source: Liu et al. 2017, "SphereFace" (arXiv 1704.08063), section 3.2.
    """

    def linear(self) -> tuple[Tensor, Tensor | None]:
        """Return the unit weights."""
        return unit_rows(self.weight), None


class GaussianHead(Head):
    """Logits are ``-1/2 |x - mean|^2`` up to what all classes of an image share: classes are Gaussians of equal width.

    Source: Wan et al. 2018, "Rethinking Feature Distribution for Loss Functions in Image Classification"
    (arXiv 1803.02988), equation 6 with covariance 1 and equal priors. ``+1/2 |x|^2``, which no softmax sees, makes
    the logits linear in the embedding.
    """

    def linear(self) -> tuple[Tensor, Tensor | None]:
        """Return the means and minus half their squared lengths."""
        means = wide(self.weight)
        return means, -0.5 * means.square().sum(1)


def add_head(network: Any, kind: HeadKind, *, scale: float, name: str, linear_head: bool) -> None:
    """Put a head in the place of a network's last linear layer, from whose weights it starts; the bias is dropped.

    For the cosine and unit-weight heads rows about 0, as some networks start with, are lengthened to 1, and rows of 0
    are drawn from torch's default generator: they have no direction.

    Args:
        network: speaks timm's interface.
        kind: which head; "linear" changes nothing.
        scale: of the cosine head.
        name: of the network, for messages.
        linear_head: whether the logits are one linear layer of the embedding.

    Raises ``ModelError`` where they are not.
    """
    if kind == "linear":
        return
    if not linear_head:
        raise ModelError(
            f"model.head: found {kind!r}, but the logits of {name!r} are no single linear layer of its embedding; "
            "take kdcam:resnet20, resnet18 or another network with one, or leave the key out"
        )
    layer_name = logits_layer_name(network)
    assert layer_name is not None
    weight = network.get_submodule(layer_name).weight.detach()
    heads = {
        "cosine": lambda: CosineHead(_with_directions(weight), scale=scale),
        "unit-weight": lambda: UnitWeightHead(_with_directions(weight)),
        "gaussian": lambda: GaussianHead(weight),
    }
    network.set_submodule(layer_name, heads[kind]())


def _with_directions(weight: Tensor) -> Tensor:
    """Return weights none of whose rows is short: no gradient leaves a row of 0, and one near it is thrown far off."""
    lengths = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    if bool((lengths > _SHORT_ROW).all()):
        return weight
    drawn = F.normalize(torch.randn_like(weight), dim=1)
    long = torch.where(lengths > 0, weight / lengths, drawn)
    return torch.where(lengths > _SHORT_ROW, weight, long)


def logits_layer_name(network: nn.Module) -> str | None:
    """Return the name of the layer that gives the logits: timm's classifier, else the last linear layer."""
    if hasattr(network, "get_classifier"):
        classifier = network.get_classifier()  # type: ignore[operator]  # timm's interface is untyped
        return next((name for name, module in network.named_modules() if module is classifier), None)
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else None


__all__ = [
    "CosineHead",
    "GaussianHead",
    "Head",
    "HeadOutputs",
    "UnitWeightHead",
    "add_head",
    "logits_layer_name",
]
