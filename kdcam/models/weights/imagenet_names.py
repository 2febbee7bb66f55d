"""ImageNet's classes: their WordNet numbers, and words for those."""

import re
from collections.abc import Sequence

IMAGENET_CLASSES = 1000
_NUMBER = re.compile(r"n\d{8}")


def imagenet_names() -> tuple[str, ...]:
    """Return the WordNet numbers of ImageNet's 1,000 classes in their usual order."""
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo().label_names())


def readable_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes, with a word for each that is a number of ImageNet: ``tench (n01440764)``."""
    if not any(_NUMBER.fullmatch(name) for name in names):
        return tuple(names)
    from timm.data.imagenet_info import ImageNetInfo

    known = ImageNetInfo("imagenet-22k")
    numbers = set(known.label_names())
    return tuple(
        f"{known.label_name_to_description(name).partition(',')[0]} ({name})" if name in numbers else name
        for name in names
    )


__all__ = ["IMAGENET_CLASSES", "imagenet_names", "readable_names"]
