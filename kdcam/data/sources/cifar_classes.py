"""The classes of CIFAR-10 and CIFAR-100, and which are taken for which: the pairs of asymmetric label noise."""

from collections.abc import Sequence
from itertools import chain

from kdcam.errors import DataError
from kdcam.settings.messages import first_few

# Patrini et al. (2017, arXiv:1609.03683), section 5; cat and dog are taken for each other.
CIFAR10_PAIRS = {
    "truck": "automobile",
    "bird": "airplane",
    "deer": "horse",
    "cat": "dog",
    "dog": "cat",
}
# Krizhevsky (2009), "Learning multiple layers of features from tiny images", chapter 3; five classes each, by name.
CIFAR100_SUPERCLASSES = (
    ("beaver", "dolphin", "otter", "seal", "whale"),
    ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    ("orchid", "poppy", "rose", "sunflower", "tulip"),
    ("bottle", "bowl", "can", "cup", "plate"),
    ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    ("clock", "keyboard", "lamp", "telephone", "television"),
    ("bed", "chair", "couch", "table", "wardrobe"),
    ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    ("bear", "leopard", "lion", "tiger", "wolf"),
    ("bridge", "castle", "house", "road", "skyscraper"),
    ("cloud", "forest", "mountain", "plain", "sea"),
    ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    ("fox", "porcupine", "possum", "raccoon", "skunk"),
    ("crab", "lobster", "snail", "spider", "worm"),
    ("baby", "boy", "girl", "man", "woman"),
    ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
)
CIFAR10_NAMES = tuple(sorted({*chain(*CIFAR10_PAIRS.items()), "frog", "ship"}))
"""In the order of the published labels, which is that of the alphabet."""
CIFAR100_NAMES = tuple(sorted(chain(*CIFAR100_SUPERCLASSES)))
"""In the order of the published (fine) labels, which is that of the alphabet."""


def confused_classes(label_names: Sequence[str]) -> dict[int, int]:
    """Return for each class (by index) that is taken for another one which one that is.

    Raises ``DataError`` unless ``label_names`` are those of CIFAR-10 or CIFAR-100, in any order.
    """
    names = set(label_names)
    if names == set(CIFAR10_NAMES):
        pairs = CIFAR10_PAIRS
    elif names == set(CIFAR100_NAMES):
        pairs = {
            name: following
            for group in CIFAR100_SUPERCLASSES
            for name, following in zip(group, group[1:] + group[:1], strict=True)
        }
    else:
        raise DataError(
            f"data.noise: asymmetric noise is told by the names of CIFAR-10's or CIFAR-100's classes, found "
            f"{len(label_names)} classes: {first_few(map(repr, label_names), most=5)}; name "
            'them so, or take kind = "pairflip", or "matrix" with a file of your own pairs'
        )
    position = {name: index for index, name in enumerate(label_names)}
    return {position[name]: position[other] for name, other in pairs.items()}


__all__ = ["CIFAR10_NAMES", "CIFAR10_PAIRS", "CIFAR100_NAMES", "CIFAR100_SUPERCLASSES", "confused_classes"]
