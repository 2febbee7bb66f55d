"""A folder with a folder of pictures for each class: found, listed, read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import torch

from kdcam.data.dataset_parts import SourceParts, images_per_class
from kdcam.data.source_configs import ImageFolderConfig
from kdcam.data.sources.part_names import PartName, by_part, look_like_parts_together, part_of
from kdcam.data.sources.picture_files import (
    ListedFiles,
    ListedParts,
    data_folder,
    is_picture_name,
    load_listed,
)
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_in, folders_in, is_utf8, nfc, real_paths, tree_below
from kdcam.files.paths import shown
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import first_few, listed

_AS_CLASSES = "put all class folders into a folder train/ (classes in there may have any name)"


class FolderListing(NamedTuple):
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


def list_images(root: Path) -> FolderListing:
    """Return the files below ``root``, classes and files in the order of their names as text (in NFC).

    Folders called as parts usually are (`kdcam.data.sources.part_names`) are the parts; else each folder is a class.
    Every file that is not hidden counts as a picture: whether it is one is found out when it is read.

    Raises:
        DataError: there is no such folder, an empty class folder, fewer than two classes, a class in validation or
            test that training lacks, folders that look like parts but may be classes, or a file that is in two
            classes or parts through links.
    """
    root = data_folder(root)
    folders = folders_in(root)
    if {"images", "labels"} <= {folder.name.lower() for folder in folders}:
        raise DataError(_label_files(root, "images/ and labels/"))
    parts = by_part(folders, alike=True)
    if parts:
        _check_parts(root, folders, parts)
    else:
        _refuse_parts_together(root, [folder.name for folder in folders])
        parts = {"train": root}
    classes = {part: class_folders(folder) for part, folder in parts.items()}
    if parts["train"] == root and len(classes["train"]) > 1:
        _refuse_parts_below(classes["train"])
    names = tuple(classes["train"])
    found = {part: _list_part(parts[part], classes[part], names, training=part == "train") for part in parts}
    if any(one.has_links for one in found.values()):
        _refuse_shared_files(found, names)
    files = {part: one.files for part, one in found.items()}
    return FolderListing(names, files["train"], files.get("validation"), files.get("test"))


def class_folders(folder: Path) -> dict[str, Path]:
    """Return the class folders right below a folder by their names in NFC, in the order of these.

    Raises ``DataError`` for a name that is not UTF-8, for two that are one in NFC, and for two that are one folder.
    """
    found: dict[str, Path] = {}
    real: dict[str, Path] = {}
    for path in folders_in(folder):
        name = nfc(path.name)
        if not is_utf8(name):
            raise DataError(f"{shown(path)}: the class folder's name is not UTF-8; rename it")
        if name in found:
            raise DataError(
                f"{shown(folder)}: holds two folders called {name!r}, written with different Unicode characters; put "
                "their pictures into one"
            )
        target = os.path.realpath(path)
        if target in real:
            raise DataError(
                f"{shown(folder)}: {real[target].name}/ and {path.name}/ are one folder through a link; remove one of "
                "them"
            )
        found[name], real[target] = path, path
    return dict(sorted(found.items()))


def _label_files(folder: Path, found: str) -> str:
    return (
        f"{shown(folder)}: holds {found}, as label files of several labels a picture lie; take data.name = "
        '"yolo-labels" (task = "multi-label"), or give each class a folder of its own'
    )


def _check_parts(root: Path, folders: Sequence[Path], parts: Mapping[PartName, Path]) -> None:
    """Raise ``DataError`` where folders that are called like parts may be classes, or other folders be classes too."""
    place, named = shown(root), listed(f"{folder.name}/" for folder in parts.values())
    others = [folder for folder in folders if folder not in parts.values()]
    for part, folder in parts.items():
        if part_of(folder.name) is None:
            raise DataError(
                f"{place}: {folder.name}/ looks like the {part} part, but may be a class; call it {part}/ if it is "
                f"the part, move it away if it is neither, or, if it is a class, {_AS_CLASSES}"
            )
        below = folders_in(folder)
        if {"images", "labels"} <= {one.name.lower() for one in below}:
            raise DataError(_label_files(folder, "images/ and labels/"))
        if not below and files_in(folder):
            raise DataError(
                f"{place}: {folder.name}/ is called like the {part} part, but holds pictures and no class folders; "
                f"sort its pictures into a folder for each class, or, if {folder.name} is a class itself, {_AS_CLASSES}"
            )
    if "train" not in parts:
        raise DataError(
            f"{place}: has {named} with class folders but no train/ with class folders; add {place}/train, or move the "
            f"class folders up so that kdcam splits them; if {named} are classes, {_AS_CLASSES}"
        )
    beside = [
        folder.name for folder in others if any(is_picture_name(file.name) for file in files_in(folder))
    ]
    if beside:
        raise DataError(
            f"{place}: has {first_few(f'{name}/' for name in beside)} with pictures beside {named}, so that it is not "
            f"sure what is a part and what a class; move what is neither away, or, if all are classes, {_AS_CLASSES}"
        )


def _refuse_parts_together(root: Path, names: Sequence[str]) -> None:
    """Raise ``DataError`` where two folders are called like parts, though none of them for sure."""
    pair = look_like_parts_together(names)
    if pair is not None:
        raise DataError(
            f"{shown(root)}: {pair[0]}/ and {pair[1]}/ look like parts, but may be classes; call the parts train/, "
            f"validation/ and test/, or, if these are classes, {_AS_CLASSES}"
        )


def _refuse_parts_below(classes: Mapping[str, Path]) -> None:
    """Raise ``DataError`` where a class folder holds the parts: its test pictures would be trained on."""
    for folder in classes.values():
        parts = by_part(folders_in(folder))
        if len(parts) > 1:
            names = listed(f"{below.name}/" for below in parts.values())
            raise DataError(
                f"{shown(folder)}: holds the parts {names} inside the class folder; put the class folders into the "
                f"parts (train/{folder.name}/, test/{folder.name}/), or the pictures right into the class folder"
            )


def _folders_further_in(classes: Mapping[str, Path]) -> str:
    """Return what to do where class folders or parts lie one folder further in, as unpacked archives have them."""
    inner = [(folder, folders_in(folder)) for folder in classes.values()]
    if len(inner) != 1 or not inner[0][1]:
        return ""
    folder, below = inner[0]
    names = first_few(f"{path.name}/" for path in below)
    way_out = f"make {shown(folder)} data.root, or move them up"
    return f". {folder.name}/ holds {names}: if these are the parts or the classes, {way_out}"


class _PartFiles(NamedTuple):
    files: tuple[tuple[Path, int], ...]
    has_links: bool


def _list_part(
    folder: Path, classes: Mapping[str, Path], names: Sequence[str], *, training: bool
) -> _PartFiles:
    """Return the files of a part's class folders; ``names`` are the classes of training."""
    place = shown(folder)
    if training and len(names) < 2:
        raise DataError(
            f"{place}: holds {len(names)} class folders{f' ({names[0]})' if names else ''}; a classifier "
            f"needs at least 2, one folder of pictures for each class{_folders_further_in(classes)}"
        )
    unknown = next((name for name in classes if name not in names), None)
    if unknown is not None:
        alike = [name for name in names if name.casefold() == unknown.casefold()]
        way_out = f"Rename it to {alike[0]!r}" if alike else "Add the class to train/ or remove the folder"
        raise DataError(
            f"{place}/{unknown}: training has no class {unknown!r}; its classes: {_shortened(names)}. {way_out}"
        )
    trees = {name: tree_below(path) for name, path in classes.items()}
    empty = [name for name, tree in trees.items() if not tree.files]
    if training and empty:
        raise DataError(
            f"{place}/{empty[0]}: the class folder holds no file; add pictures or remove the folder"
        )
    if len(empty) == len(trees):
        raise DataError(
            f"{place}: holds no picture in class folders; fill it, or move it away to have kdcam split"
        )
    files = [(path, label) for label, name in enumerate(names) if name in trees for path in trees[name].files]
    return _PartFiles(tuple(files), folder.is_symlink() or any(tree.has_links for tree in trees.values()))


def _refuse_shared_files(parts: Mapping[PartName, _PartFiles], names: Sequence[str]) -> None:
    """Raise ``DataError`` where links put one file into two classes or into two parts."""
    seen: dict[str, tuple[PartName, int, Path]] = {}
    for part, (files, _) in parts.items():
        for real, (path, label) in zip(real_paths(path for path, _ in files), files, strict=True):
            if real not in seen:
                seen[real] = (part, label, path)
                continue
            other_part, other_label, other = seen[real]
            where = (
                f"classes {names[other_label]!r} and {names[label]!r}"
                if part == other_part
                else f"{other_part} and {part} parts"
            )
            raise DataError(
                f"{shown(path)}: is the same file as {shown(other)} through a link, so that it is in the {where}; "
                "remove the link"
            )


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


def _listed(entries: Sequence[tuple[Path, int]]) -> ListedFiles:
    return ListedFiles(tuple(path for path, _ in entries), torch.tensor([label for _, label in entries]))


def class_counts(entries: Sequence[tuple[Path, int]], num_classes: int) -> list[int]:
    """Return the number of files of each class."""
    return images_per_class(torch.tensor([label for _, label in entries]), num_classes)


__all__ = [
    "FolderListing",
    "class_counts",
    "class_folders",
    "list_folder",
    "list_images",
    "load_image_folder",
]
