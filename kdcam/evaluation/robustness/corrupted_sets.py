"""Readers of published corrupted test sets: CIFAR-10-C and CIFAR-100-C (.npy), ImageNet-C (folders of pictures).

The layouts are those of Hendrycks and Dietterich 2019, arXiv 1903.12261, and of the files published with it
(github.com/hendrycks/robustness).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdcam.corruptions.corruption_list import SEVERITIES
from kdcam.data.batches.batch import Batches
from kdcam.data.batches.resident import ResidentBatches, ResidentImages
from kdcam.data.batches.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.data.sources.cifar_classes import CIFAR10_NAMES, CIFAR100_NAMES
from kdcam.data.sources.image_folder import class_folders
from kdcam.data.splits.held_out import interleave_classes
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below, folders_in, nfc
from kdcam.files.npy_files import open_npy
from kdcam.files.paths import exists, expanded, is_folder
from kdcam.settings.messages import did_you_mean, first_few, listed

_LABELS = "labels"
_NAMED = 10  # class names in an error; the others are counted
_PUBLISHED = {"CIFAR-10": CIFAR10_NAMES, "CIFAR-100": CIFAR100_NAMES}
ORDER_NOTE = "its labels are taken to be in the order of the classifier's classes"


class ClassifierInput(NamedTuple):
    """What a classifier takes."""

    label_names: tuple[str, ...]
    image_size: int  # a side, pixels; pictures of another size are resized as in evaluation
    channels: int


@dataclass(frozen=True)
class ArraySet:
    """A folder with labels.npy (5 n,) and NAME.npy (5 n, H, W, 3) uint8: n images at severity 1, then at 2 ..."""

    folder: Path
    names: tuple[str, ...]
    labels: Tensor  # (n,) int64
    wanted: ClassifierInput

    @property
    def ordered_labels(self) -> Tensor:
        """The labels (n,) of the images that every copy is of, in order."""
        return self.labels

    @property
    def note(self) -> str:
        """What is taken for granted: the order of 10 or 100 classes is checked, that of others cannot be."""
        known = {len(names) for names in _PUBLISHED.values()}
        return "" if len(self.wanted.label_names) in known else ORDER_NOTE

    def batches(self, name: str, severity: int, *, batch_size: int, device: torch.device) -> Batches:
        """Return the copy of one corruption and severity, in order; ``DataError`` for an array of another shape."""
        check_copy(self.folder, name, severity, self.names)
        path, count = self.folder / f"{name}.npy", len(self.labels)
        rows = open_npy(path, error=DataError)
        if rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[::3] != (5 * count, 3):
            raise DataError(
                f"{path}: holds {rows.dtype} of shape {rows.shape}; wanted uint8 ({5 * count}, height, width, 3), "
                "as many rows as labels.npy"
            )
        pixels = torch.from_numpy(np.array(rows[(severity - 1) * count : severity * count]))
        return ResidentBatches(
            ResidentImages(pixels.permute(0, 3, 1, 2), image_size=self.wanted.image_size),
            self.labels,
            batch_size=batch_size,
            training=False,
            augment=(),
            seed=0,
            device=device,
        )


@dataclass(frozen=True)
class FolderSet:
    """A folder NAME/SEVERITY/CLASS/pictures; the classes come in turn, so that the first images show all of them."""

    folder: Path
    names: tuple[str, ...]
    wanted: ClassifierInput
    ordered_labels: ClassVar[None] = None  # files have an order of their own, not the test part's
    note: ClassVar[str] = ""  # folders bear the classes' names

    def batches(self, name: str, severity: int, *, batch_size: int, device: torch.device) -> Batches:
        """Return the copy of one corruption and severity.

        Raises ``DataError`` for a class folder that the classifier does not know, or where there is no picture.
        """
        check_copy(self.folder, name, severity, self.names)
        paths, labels = self._listed(name, severity)
        order = interleave_classes(labels)
        images = StreamImages(
            FilePictures(paths), image_size=self.wanted.image_size, channels=self.wanted.channels
        )
        return StreamBatches.in_order(
            images.subset(order), labels[order], batch_size=batch_size, device=device
        )

    def _listed(self, name: str, severity: int) -> tuple[list[Path], Tensor]:
        folder = self.folder / name / str(severity)
        if not is_folder(folder):
            raise DataError(
                f"{folder}: not there; the layout is {name}/1 to {name}/5, in each a folder a class"
            )
        numbers = {nfc(label): number for number, label in enumerate(self.wanted.label_names)}
        classes = class_folders(folder)
        _check_class_folders(folder, tuple(classes), tuple(numbers))
        files = [(path, numbers[name]) for name, found in classes.items() for path in files_below(found)]
        if not files:
            raise DataError(
                f"{folder}: holds no picture in class folders; fill it, or leave this severity out"
            )
        return [path for path, _ in files], torch.tensor([label for _, label in files])


CorruptedSet = ArraySet | FolderSet
"""A test set in corrupted copies, its corruptions in the order of their names as text."""


def open_corrupted_set(
    folder: str | Path, label_names: Sequence[str], *, image_size: int, channels: int
) -> CorruptedSet:
    """Return the published corrupted test set in a folder, its pictures not read yet.

    With .npy files it is read as CIFAR-10-C or CIFAR-100-C are laid out, else as ImageNet-C is. Files of a smaller
    set of the same layout are read too.

    Args:
        folder: CIFAR-10-C/, CIFAR-100-C/ or ImageNet-C's folder of corruptions.
        label_names: the classifier's classes; class folders are found by these names. Of arrays with 10 or 100
            classes they must be CIFAR-10's or CIFAR-100's in the published order; any other order of other classes
            is taken to be that of the labels.
        image_size: the side that the classifier was trained at, in pixels.
        channels: of the pictures it takes; arrays hold 3.

    Raises ``DataError`` where the folder has neither layout, labels.npy is missing or wrong, or the classes or
    channels do not fit the classifier.
    """
    folder = expanded(folder)
    if not is_folder(folder):
        raise DataError(
            f"corrupted set: {folder} is {'a file' if exists(folder) else 'not there'}; name the folder of "
            "CIFAR-10-C, CIFAR-100-C or ImageNet-C"
        )
    wanted = ClassifierInput(tuple(label_names), image_size, channels)
    arrays = sorted(path.stem for path in folder.glob("*.npy") if path.stem != _LABELS)
    if arrays or exists(folder / f"{_LABELS}.npy"):
        return ArraySet(folder, tuple(arrays), _labels(folder, wanted), wanted)
    names = tuple(
        found.name
        for found in folders_in(folder)
        if any(is_folder(found / str(severity)) for severity in SEVERITIES)
    )
    if not names:
        raise DataError(
            f"{folder}: holds neither labels.npy and NAME.npy (CIFAR-10-C) nor folders NAME/SEVERITY/CLASS "
            "(ImageNet-C); name the folder right above them"
        )
    return FolderSet(folder, names, wanted)


def check_copy(folder: Path, name: str, severity: int, names: Iterable[str]) -> None:
    """Raise ``DataError`` for a corruption that a set does not have, ``ValueError`` for a severity not in 1 to 5."""
    if name not in names:
        raise DataError(
            f"{folder}: has no corruption {name!r}{did_you_mean(name, names)}; it has {listed(names)}"
        )
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity!r}; wanted a whole number from 1 to 5")


def _labels(folder: Path, wanted: ClassifierInput) -> Tensor:
    path = folder / f"{_LABELS}.npy"
    if not exists(path):
        raise DataError(f"{path}: not there; the set's labels, one for each row of its arrays, belong there")
    labels = open_npy(path, error=DataError)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) == 0 or len(labels) % 5:
        raise DataError(
            f"{path}: holds {labels.dtype} of shape {labels.shape}; wanted whole numbers (5 n,), those of the n "
            "images once for each severity"
        )
    blocks = labels.astype(np.int64).reshape(5, -1)
    if (blocks != blocks[0]).any():
        raise DataError(f"{path}: the five blocks of labels, one a severity, differ; fetch the file again")
    classes, least = int(blocks.max()) + 1, int(blocks.min())
    if least < 0 or classes != len(wanted.label_names):
        raise DataError(
            f"{path}: labels {least} to {classes - 1} where the classifier has {len(wanted.label_names)} classes; "
            "take the set that was made of its own test part"
        )
    _check_published_order(path, wanted.label_names)
    if wanted.channels != 3:
        raise DataError(
            f"{folder}: its pictures have 3 channels where the classifier takes {wanted.channels}"
        )
    return torch.from_numpy(blocks[0].copy())


def _check_published_order(path: Path, label_names: Sequence[str]) -> None:
    for data, published in _PUBLISHED.items():
        if len(published) != len(label_names):
            continue
        for label, (here, there) in enumerate(zip(label_names, published, strict=True)):
            if here != there:
                raise DataError(
                    f"{path}: label {label} is {there!r} in {data}'s order, and the classifier's class {label} is "
                    f"{here!r}; evaluate a run on {data} with its classes in their order, or lay the set out as "
                    "NAME/SEVERITY/CLASS folders, which are read by name"
                )


def _check_class_folders(folder: Path, found: Sequence[str], label_names: Sequence[str]) -> None:
    unknown = [name for name in found if name not in label_names]
    if unknown:
        raise DataError(
            f"{folder / unknown[0]}: the classifier has no class {unknown[0]!r}; its classes: "
            f"{first_few(label_names, most=_NAMED)}; class folders must bear its label names"
        )


__all__ = [
    "ORDER_NOTE",
    "ArraySet",
    "ClassifierInput",
    "CorruptedSet",
    "FolderSet",
    "check_copy",
    "open_corrupted_set",
]
