"""A folder with a folder of pictures for each class: found, listed, read."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from kdcam.data.config import ImageFolderConfig
from kdcam.data.parts import SourceParts
from kdcam.data.picture_files import (
    Listed,
    ListedParts,
    data_folder,
    files_below,
    folders_in,
    load_listed,
)
from kdcam.errors import DataError
from kdcam.progress import Progress

VALIDATION_FOLDERS = ("val", "validation", "valid")


class Listing(NamedTuple):
    """The files of an image folder, by part, with the class of each."""

    label_names: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    validation: tuple[tuple[Path, int], ...] | None  # None: no such folder
    test: tuple[tuple[Path, int], ...] | None

    def of_classes(self, names: Sequence[str]) -> Self:
        """Return the files of the classes ``names``, numbered in that order; a part that has none of them goes."""
        number = {self.label_names.index(name): index for index, name in enumerate(names)}
        train, validation, test = (
            tuple((path, number[label]) for path, label in entries or () if label in number)
            for entries in (self.train, self.validation, self.test)
        )
        return type(self)(tuple(names), train, validation or None, test or None)


def list_images(root: Path) -> Listing:
    """Return the files below ``root``, classes and files in the order of their names as text.

    Every file that is not hidden counts as a picture: whether it is one is found out when it is read.

    Raises:
        DataError: there is no such folder, an empty class folder, fewer than two classes, or a class in
            validation or test that training lacks.
    """
    root = data_folder(root)
    folders = {folder.name: folder for folder in folders_in(root)}
    if {"images", "labels"} <= folders.keys():
        raise DataError(
            f"{root}: holds images/ and labels/, as label files of several labels a picture lie; take data.name = "
            '"yolo-labels" (task = "multi-label"), or give each class a folder of its own'
        )
    if "train" not in folders or not folders_in(folders["train"]):
        return _list_unsplit(root, folders)
    names = tuple(folder.name for folder in folders_in(folders["train"]))
    return Listing(
        names,
        _list_part(folders["train"], names, training=True),
        *(
            None if folder is None else _list_part(folder, names, training=False)
            for folder in (_validation_folder(root, folders), folders.get("test"))
        ),
    )


def _list_unsplit(root: Path, folders: dict[str, Path]) -> Listing:
    held_out = [
        name for name in (*VALIDATION_FOLDERS, "test") if name in folders and folders_in(folders[name])
    ]
    if held_out:
        raise DataError(
            f"{root}: has {held_out[0]}/ with class folders but no train/ with class folders; add "
            f"{root / 'train'}, or move the class folders up so that kdcam splits them"
        )
    names = tuple(folders)
    return Listing(names, _list_part(root, names, training=True), None, None)


def _validation_folder(root: Path, folders: dict[str, Path]) -> Path | None:
    found = [name for name in VALIDATION_FOLDERS if name in folders]
    if len(found) > 1:
        raise DataError(f"{root}: has both {found[0]}/ and {found[1]}/; keep one validation folder")
    return folders[found[0]] if found else None


def _list_part(folder: Path, names: Sequence[str], *, training: bool) -> tuple[tuple[Path, int], ...]:
    if training and len(names) < 2:
        raise DataError(
            f"{folder}: holds {len(names)} class folders{f' ({names[0]})' if names else ''}; a classifier "
            "needs at least 2, one folder of pictures for each class"
        )
    unknown = [found.name for found in folders_in(folder) if found.name not in names]
    if unknown:
        raise DataError(
            f"{folder / unknown[0]}: training has no class {unknown[0]!r}; its classes: "
            f"{_shortened(names)}. Add the class to train/ or remove the folder"
        )
    files = [(path, label) for label, name in enumerate(names) for path in files_below(folder / name)]
    filled = {label for _, label in files}
    for label, name in enumerate(names):
        if training and label not in filled:
            raise DataError(
                f"{folder / name}: the class folder holds no file; add pictures or remove the folder"
            )
    if not files:
        raise DataError(
            f"{folder}: holds no picture in class folders; fill it, or move it away to have kdcam split"
        )
    return tuple(files)


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" ... ({len(names)} in all)" if len(names) > 10 else "")


def load_image_folder(config: ImageFolderConfig, *, progress: Progress) -> SourceParts:
    """Return the parts of an image folder; each file is decoded here, to name bad ones before training.

    Raises:
        DataError: see ``list_images`` and ``load_listed``.
    """
    return load_listed(list_folder(config), config, progress=progress)


def list_folder(config: ImageFolderConfig) -> ListedParts:
    """Return the files of an image folder; ``DataError``: see ``list_images``."""
    listing = list_images(config.root)
    return ListedParts(
        listing.label_names,
        _listed(listing.train),
        None if listing.validation is None else _listed(listing.validation),
        None if listing.test is None else _listed(listing.test),
    )


def _listed(entries: Sequence[tuple[Path, int]]) -> Listed:
    return Listed(tuple(path for path, _ in entries), torch.tensor([label for _, label in entries]))


def class_counts(entries: Sequence[tuple[Path, int]], num_classes: int) -> list[int]:
    """Return the number of files of each class."""
    labels: Tensor = torch.tensor([label for _, label in entries])
    return torch.bincount(labels, minlength=num_classes).tolist()


__all__ = [
    "VALIDATION_FOLDERS",
    "Listing",
    "class_counts",
    "list_folder",
    "list_images",
    "load_image_folder",
]
