"""Networks with published weights, by their names, in the place of a run."""

from typing import Any

from kdcam.errors import CheckpointError, KdcamError, ModelError
from kdcam.models.build import build_classifier
from kdcam.models.catalogue import split_name
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.imagenet_names import IMAGENET_CLASSES, imagenet_names
from kdcam.models.weights.packaged_weights import is_packaged, packaged
from kdcam.models.weights.published import published_classes


def load_published_network(name: str) -> Classifier:
    """Return a network with its published weights, on the CPU in eval mode; they are downloaded once.

    Of weights that tell 1,000 classes apart the classes are called by ImageNet's numbers.

    Args:
        name: of timm's or torchvision's ("torchvision:resnet18"), or a Python package as "package:NAME"; see
            `kdcam.models.weights.packaged_weights.PACKAGED`.

    Raises ``CheckpointError`` where there is no such network, or it has no published weights with a classifier.
    """
    bare = packaged(name).network if is_packaged(name) else name
    classes = _published_class_count(name, bare)
    facts = _input_facts(bare)
    start = {"weights": name} if is_packaged(name) else {"pretrained": True}
    try:
        classifier = build_classifier(
            ModelConfig.model_validate({"name": bare, **start}),
            num_classes=classes,
            in_channels=3,
            image_size=facts["image_size"],
            label_names=imagenet_names() if classes == IMAGENET_CLASSES and facts["of_imagenet"] else (),
        )
    except ModelError as error:
        raise CheckpointError(f"{name}: its published weights cannot be had: {error}") from error
    return classifier.eval()


def _published_class_count(name: str, network: str) -> int:
    try:
        classes = IMAGENET_CLASSES if is_packaged(name) else published_classes(network)
    except KdcamError as error:
        raise CheckpointError(
            f"{name}: there is no such folder or file, and as the name of a network: {error}"
        ) from error
    if not classes:
        has = "published weights" if classes is None else "a classifier in its published weights"
        raise CheckpointError(
            f"{name}: is no folder or file, and a network of this name without {has}; train it first"
        )
    return classes


def _input_facts(network: str) -> dict[str, Any]:
    """Return the side in pixels that the weights were tested at, and whether their classes may be ImageNet's."""
    source, bare = split_name(network)
    if source == "torchvision":
        from torchvision import models

        (size, *_) = models.get_model_weights(bare).DEFAULT.transforms().crop_size
        return {"image_size": int(size), "of_imagenet": True}
    import timm

    known: Any = timm.get_pretrained_cfg(bare)
    return {"image_size": int(known.input_size[-1]), "of_imagenet": known.label_names is None}


__all__ = ["load_published_network"]
