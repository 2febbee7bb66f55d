"""What a built network is asked before training: its sizes, and whether its class activation map is exact."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.errors import ModelError
from kdcam.models.classifier import Classifier, Outputs, Widths, translate_image_errors, why_no_parts
from kdcam.models.heads import logits_layer_name
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import require_finite_outputs

WITH_EXACT_CAM = (
    "kdcam:resnet20, resnet18, regnety_002, efficientnet_b0, densenet121 (timm), torchvision:mobilenet_v2"
)
# Of the largest magnitude; rounding gives about 1e-6, a norm layer in between 0.3 and more.
_CAM_TOLERANCE = 1e-3
_COUNTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def check_cam(classifier: Classifier) -> None:
    """Prove that the mean over the positions of each class's CAM plus the bias is the class's logit.

    Random images go through the network in eval mode; modes, random state and BatchNorm's statistics stay as
    they are. The map's mean is compared with the embedding, so that a classifier of zeros proves nothing; and
    under shifted BatchNorm statistics, since an untrained norm layer behind the pooling would pass for none.

    Raises ``ModelError`` with the reason, and networks that do have an exact CAM, where this is not so; and where
    the network's logits are not finite, which proves nothing.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (2, classifier.in_channels, classifier.image_size, classifier.image_size)
    images = torch.rand(shape, generator=generator)
    with _shifted_norms(classifier, generator):
        outputs, logits = _probe(classifier, images)
    require_finite_outputs(logits, f"model.name: {classifier.config.name!r}")
    reason = why_no_parts(outputs) or _why_no_cam(outputs, logits)
    if reason is not None:
        raise ModelError(
            f"model.name: {classifier.config.name!r} has no exact class activation map: {reason}; take a "
            "network that ends in global average pooling and one linear layer, such as "
            f"{WITH_EXACT_CAM}, or leave out the losses that read CAMs"
        )


def check_linear_classifier(classifier: Classifier) -> None:
    """Raise ``ModelError`` where the logits are no linear layer of the embedding, so that no weights can be read."""
    outputs, _ = _probe(classifier, _black_image(classifier))
    if outputs.weight is None:
        raise ModelError(
            f"model.name: the classifier of {classifier.config.name!r} is no single linear layer, and a loss of the "
            f"recipe reads its weights; take a network such as {WITH_EXACT_CAM}, or leave that loss out"
        )


def linear_classifier(classifier: Classifier) -> nn.Linear:
    """Return the layer that a solved classifier is put into: it alone makes the logits, of the embedding.

    The layer that timm names a network's classifier is only part of one where a BatchNorm or a second classifier
    stands beside it (EfficientViT-MSRA, SHViT, VOLO).

    Raises ``ModelError`` where there is no such layer, or it has no bias.
    """
    name = logits_layer_name(classifier.network)
    layer = None if name is None else classifier.network.get_submodule(name)
    outputs, _ = _probe(classifier, _black_image(classifier))
    if not isinstance(layer, nn.Linear) or layer.bias is None or outputs.weight is not layer.weight:
        raise ModelError(
            f'init.frozen: found "all" with cross_entropy alone, but the classifier of {classifier.config.name!r} is '
            "no single linear layer of the embedding with a bias, which could be solved; freeze a number of stages, "
            f"or take another network, such as {WITH_EXACT_CAM}"
        )
    return layer


def widths(classifier: Classifier, *, image_size: int | None = None) -> Widths:
    """Return the sizes of a network's outputs, measured on one black image in eval mode; nothing changes.

    ``image_size`` is the image's, in pixels; none: the network's own.

    Raises ``ModelError`` where the network cannot take images of this size.
    """
    outputs, _ = _probe(classifier, _black_image(classifier, image_size), stages=True)
    if outputs.feature_map is None:
        return Widths(outputs.embedding.shape[1], None, None, None)
    channels, height, width = outputs.feature_map.shape[1:]
    stages, published = _sizes(outputs.stages), _sizes(outputs.published_stages)
    return Widths(outputs.embedding.shape[1], channels, height, width, stages, published)


def _sizes(maps: Sequence[Tensor]) -> tuple[tuple[int, int, int], ...]:
    return tuple((one.shape[1], one.shape[2], one.shape[3]) for one in maps)


class Cost(NamedTuple):
    """What a network costs."""

    parameters: int
    operations: int  # multiplications, each with an addition, of a forward pass of one image

    def text(self) -> str:
        """Return both in words, as in ``1.21 M parameters and 40.1 M multiply-adds``."""
        return f"{_short(self.parameters)} parameters and {_short(self.operations)} multiply-adds"


def _short(number: int) -> str:
    return f"{number / 1e9:.3g} G" if number >= 999.5e6 else f"{number / 1e6:.3g} M"


def cost(classifier: Classifier, *, image_size: int) -> Cost:
    """Return what a network costs on one image of ``image_size`` pixels a side; nothing changes.

    Counted are the operations of its convolutions and linear layers: nearly all, but for the products inside attention.

    Raises ``ModelError`` where the network cannot take images of this size.
    """
    operations = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal operations
        assert isinstance(layer, _COUNTED)
        operations += output.numel() * layer.weight[0].numel()

    hooks = [
        layer.register_forward_hook(count) for layer in classifier.modules() if isinstance(layer, _COUNTED)
    ]
    try:
        _forward(classifier, _black_image(classifier, image_size))
    finally:
        for hook in hooks:
            hook.remove()
    return Cost(sum(parameter.numel() for parameter in classifier.parameters()), operations)


def _black_image(classifier: Classifier, image_size: int | None = None) -> Tensor:
    size = image_size or classifier.image_size
    return torch.zeros(1, classifier.in_channels, size, size)


def _probe(classifier: Classifier, images: Tensor, *, stages: bool = False) -> tuple[Outputs, Tensor]:
    """Return what ``outputs`` and ``forward`` give for some images in eval mode; the random state is kept."""
    with _untouched(classifier, images):
        images = images.to(classifier.mean.device)
        return classifier.outputs(images, stages=stages), classifier(images)


def _forward(classifier: Classifier, images: Tensor) -> Tensor:
    with _untouched(classifier, images):
        logits: Tensor = classifier(images.to(classifier.mean.device))
        return logits


@contextmanager
def _untouched(classifier: Classifier, images: Tensor) -> Iterator[None]:
    """Let a network see images inside in eval mode and without gradient; its modes and the random state are kept."""
    device = classifier.mean.device
    with (
        eval_mode(classifier),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.no_grad(),
        torch.autocast(device.type, enabled=False),
        translate_image_errors(classifier.config.name, tuple(images.shape[1:])),
    ):
        yield


@contextmanager
def _shifted_norms(classifier: Classifier, generator: torch.Generator) -> Iterator[None]:
    """Shift the running mean of every BatchNorm, and afterwards put the old one back."""
    means = [buffer for name, buffer in classifier.named_buffers() if name.endswith("running_mean")]
    kept = [mean.clone() for mean in means]
    try:
        for mean in means:
            mean += 0.1 * torch.rand(mean.shape, generator=generator).to(mean)
        yield
    finally:
        for mean, before in zip(means, kept, strict=True):
            mean.copy_(before)


def _why_no_cam(outputs: Outputs, logits: Tensor) -> str | None:
    """Return why the mean of the CAM is not the logits; None where it is."""
    feature_map, embedding = outputs.feature_map, outputs.embedding
    assert feature_map is not None
    if feature_map.shape[1] != embedding.shape[1]:
        return (
            f"the classifier reads {embedding.shape[1]} values where the last map has {feature_map.shape[1]} "
            "channels, so layers stand between the map and the classifier"
        )
    pooled = feature_map.mean((2, 3))
    if not _close(pooled, embedding):
        error = (pooled - embedding).abs().max().item()
        return (
            f"the classifier does not read the map's mean (largest difference {error:.2g}): a layer such as "
            "a normalisation stands between pooling and classifier, or the pooling is no average"
        )
    if not _close(outputs.logits, logits):
        return "its logits are more than the classifier's weight times the embedding"
    return None


def _close(one: Tensor, other: Tensor) -> bool:
    return bool(((one - other).abs().max() <= _CAM_TOLERANCE * other.abs().max()).item())


__all__ = [
    "WITH_EXACT_CAM",
    "Cost",
    "check_cam",
    "check_linear_classifier",
    "cost",
    "linear_classifier",
    "widths",
]
