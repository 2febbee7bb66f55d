"""A head of normalised weights written as the plain linear layer that other programs have."""

from typing import Any, NamedTuple

import torch

from kdcam.errors import ModelError
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier
from kdcam.models.heads import Head
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.safetensors_files import load_exactly
from kdcam.models.weights.starting_weights import logits_layer_name


class FoldedHead(NamedTuple):
    """A classifier with a linear layer, and what is different."""

    classifier: Classifier
    change: str | None  # what its logits mean that the original's do not; None: they are the same


def fold_head(classifier: Classifier) -> FoldedHead:
    """Return the classifier with a plain linear layer in its head's place; itself where it has one already.

    A head's weights and bias become the layer's. Of a cosine head, which divides by the embedding's length as no
    linear layer can, the unit weights are taken: the same class wins, with other confidences.

    Raises ``ModelError`` where the network's own linear layer has no bias and the head needs one.
    """
    network: Any = classifier.network
    place = logits_layer_name(network)
    head = None if place is None else network.get_submodule(place)
    if not isinstance(head, Head):
        return FoldedHead(classifier, None)
    with torch.no_grad():
        weight, bias = head.linear()
    change = None
    if head.reads_direction:
        scale = classifier.config.scale
        weight = weight / scale
        same = "top-1 is" if classifier.task == "single-label" else "decisions at 0.5 are"
        change = (
            f"logits are the embedding's length times the cosine, not {scale:g} times it: {same} the same, "
            "confidences and the order of images by them are not"
        )
    linear = _with_linear_layer(classifier)
    tensors = network.state_dict() | {f"{place}.weight": weight}
    if f"{place}.bias" in linear.network.state_dict():
        tensors[f"{place}.bias"] = torch.zeros(len(weight)) if bias is None else bias
    elif bias is not None:
        raise ModelError(
            f"model.head: the linear layer of {classifier.config.name!r} has no bias, which "
            f"{classifier.config.head!r} needs; export it in another format"
        )
    load_exactly(linear.network, tensors, place="the folded head", what=classifier.config.name)
    return FoldedHead(linear.eval(), change)


def _with_linear_layer(classifier: Classifier) -> Classifier:
    mean, std = classifier.preprocessing
    changes = {"pretrained": False, "weights": None, "mean": mean, "std": std, "head": "linear"}
    usual = {"scale": ModelConfig().scale}
    with torch.random.fork_rng(devices=[]):
        return build_classifier(
            classifier.config.model_copy(update=changes | usual),
            num_classes=classifier.num_classes,
            in_channels=classifier.in_channels,
            image_size=classifier.image_size,
            label_names=classifier.label_names,
            task=classifier.task,
        )


__all__ = ["FoldedHead", "fold_head"]
