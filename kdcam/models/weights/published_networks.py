"""Networks with published weights, by their names: how many classes they tell apart, and what these are called."""

import re
from collections.abc import Sequence
from typing import Any

from kdcam.errors import CheckpointError, KdcamError, ModelError
from kdcam.models.build import build_classifier
from kdcam.models.catalogue import split_name
from kdcam.models.classifier import Classifier
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.packaged_weights import is_packaged, packaged

IMAGENET_CLASSES = 1000
_WORDNET_NUMBER = re.compile(r"n\d{8}")


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
        from torchvision import models  # here: it takes seconds

        (size, *_) = models.get_model_weights(bare).DEFAULT.transforms().crop_size
        return {"image_size": int(size), "of_imagenet": True}
    import timm  # here: it takes seconds

    known: Any = timm.get_pretrained_cfg(bare)
    return {"image_size": int(known.input_size[-1]), "of_imagenet": known.label_names is None}


def published_classes(name: str) -> int | None:
    """Return the class count of a network's published weights; 0: no classifier; None: there are none.

    Raises ``ModelError`` where there is no such network.
    """
    source, bare = split_name(name)
    if source == "timm":
        return _classes_in_timm(bare)
    if source == "torchvision":
        from torchvision import models  # here: it takes seconds

        categories: list[str] = models.get_model_weights(bare).DEFAULT.meta["categories"]
        return len(categories)
    return None


def _classes_in_timm(name: str) -> int | None:
    import timm  # here: it takes seconds

    if not timm.is_model_pretrained(name):
        return None
    known = timm.get_pretrained_cfg(name)
    return None if known is None else int(known.num_classes)


def imagenet_names() -> tuple[str, ...]:
    """Return the WordNet numbers of ImageNet's 1,000 classes in their usual order."""
    from timm.data.imagenet_info import ImageNetInfo  # here: it takes seconds

    return tuple(ImageNetInfo().label_names())


def readable_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes, with a word for each that is a number of ImageNet: ``tench (n01440764)``."""
    if not any(_WORDNET_NUMBER.fullmatch(name) for name in names):
        return tuple(names)
    from timm.data.imagenet_info import ImageNetInfo  # here: it takes seconds

    known = ImageNetInfo("imagenet-22k")
    numbers = set(known.label_names())
    return tuple(
        f"{known.label_name_to_description(name).partition(',')[0]} ({name})" if name in numbers else name
        for name in names
    )


__all__ = [
    "IMAGENET_CLASSES",
    "imagenet_names",
    "load_published_network",
    "published_classes",
    "readable_names",
]
