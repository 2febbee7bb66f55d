"""CIFAR and torchvision's other classification sets, in the parts their authors made."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import StreamImages
from kdcam.data.common_config import RESIDENT_LIMIT
from kdcam.data.dataset_parts import Part, SourceParts, class_names
from kdcam.data.source_configs import CifarConfig, TorchvisionConfig
from kdcam.data.sources.mnist import data_root, download
from kdcam.data.sources.picture_files import read_resident
from kdcam.errors import DataError
from kdcam.runtime.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image

_Parts = tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any] | None]
_SPLIT: _Parts = ({"split": "train"}, None, {"split": "test"})
_SPLIT3: _Parts = ({"split": "train"}, {"split": "val"}, {"split": "test"})
_BOOL: _Parts = ({"train": True}, None, {"train": False})
_WHOLE: _Parts = ({}, None, None)


class TorchvisionSet(NamedTuple):
    """How one of torchvision's data sets is asked for its parts and labels."""

    classes: int
    parts: _Parts  # train, validation, test
    labels: str  # the attribute with a label, or a (file, label) pair, for each image
    channels: int = 3


SETS = {
    "Country211": TorchvisionSet(211, ({"split": "train"}, {"split": "valid"}, {"split": "test"}), "targets"),
    "DTD": TorchvisionSet(47, _SPLIT3, "_labels"),
    "EuroSAT": TorchvisionSet(10, _WHOLE, "targets"),
    "FGVCAircraft": TorchvisionSet(100, _SPLIT3, "_labels"),
    "Flowers102": TorchvisionSet(102, _SPLIT3, "_labels"),
    "Food101": TorchvisionSet(101, _SPLIT, "_labels"),
    "GTSRB": TorchvisionSet(43, _SPLIT, "_samples"),
    "Imagenette": TorchvisionSet(10, ({"split": "train"}, {"split": "val"}, None), "_samples"),
    "KMNIST": TorchvisionSet(10, _BOOL, "targets", channels=1),
    "OxfordIIITPet": TorchvisionSet(37, ({"split": "trainval"}, None, {"split": "test"}), "_labels"),
    "STL10": TorchvisionSet(10, _SPLIT, "labels"),
    "SUN397": TorchvisionSet(397, _WHOLE, "_labels"),
    "SVHN": TorchvisionSet(10, _SPLIT, "labels"),
    "StanfordCars": TorchvisionSet(196, _SPLIT, "_samples"),
    "USPS": TorchvisionSet(10, _BOOL, "targets", channels=1),
}


class SetPictures:
    """The pictures of a torchvision data set."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.dataset)

    def picture(self, index: int, at_least: int | None) -> "Image":  # noqa: ARG002  # torchvision decodes whole
        """Return a picture at its full size."""
        try:
            image: Image = self.dataset[index][0]
        except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
            place = f"{type(self.dataset).__name__}, image {index}"
            raise DataError(
                f"{place}: cannot be read ({error}); delete the data set's folder to fetch it again"
            ) from None
        return image


def load_torchvision(config: TorchvisionConfig, *, progress: Progress) -> SourceParts:
    """Return the parts of one of torchvision's sets; see ``TorchvisionConfig``."""
    name = config.name.removeprefix("torchvision:")
    known, root = SETS[name], data_root(config.root)
    progress.message(f"{name}: reading {root}, downloading what is missing")
    datasets = [None if part is None else download(name, root, **part) for part in known.parts]
    train, validation, test = (
        None if dataset is None else _part(dataset, known, config, progress) for dataset in datasets
    )
    assert train is not None
    names = class_names(getattr(datasets[0], "classes", None) or range(known.classes))
    share = config.test if test is None else 0.0
    return SourceParts(train, validation, test, names, known.channels, share)


def _part(dataset: Any, known: TorchvisionSet, config: TorchvisionConfig, progress: Progress) -> Part:
    targets = _labels(getattr(dataset, known.labels))
    images = StreamImages(SetPictures(dataset), image_size=config.image_size, channels=known.channels)
    if config.image_size > RESIDENT_LIMIT:
        return Part(images, targets)
    held, reasons = read_resident(images, task="reading pictures", progress=progress)
    bad = [reason for reason in reasons if reason is not None]
    if bad:
        raise DataError(f"{bad[0]}{f'; and {len(bad) - 1} more' if len(bad) > 1 else ''}")
    return Part(held, targets)


def _labels(entries: Sequence[Any] | Tensor) -> Tensor:
    first = entries[0]
    plain = [entry[1] for entry in entries] if isinstance(first, tuple | list) else entries
    return torch.as_tensor(plain).long()


def load_cifar(config: CifarConfig) -> SourceParts:
    """Return CIFAR-10's or CIFAR-100's training and test parts."""
    root = data_root(config.root)
    sets: list[Any] = [download(config.name.upper(), root, train=train) for train in (True, False)]
    train, test = (
        Part(
            ResidentImages(torch.from_numpy(part.data).permute(0, 3, 1, 2), image_size=config.image_size),
            torch.tensor(part.targets),
        )
        for part in sets
    )
    return SourceParts(train, None, test, class_names(sets[0].classes), channels=3)


__all__ = ["SETS", "SetPictures", "TorchvisionSet", "load_cifar", "load_torchvision"]
