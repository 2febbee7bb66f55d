"""A folder of pictures: found, listed, checked, and read into memory when the pictures are small."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from kdcam.data.config import RESIDENT_LIMIT, ImageFolderConfig
from kdcam.data.images import bad_image_reason
from kdcam.data.parts import Part, SourceParts
from kdcam.data.resident import ResidentImages
from kdcam.data.streaming import FilePictures, StreamImages
from kdcam.errors import DataError
from kdcam.progress import Progress

VALIDATION_FOLDERS = ("val", "validation", "valid")
_LITTER = ("thumbs.db", "desktop.ini")  # left by file managers, besides hidden files
_NAMED = 5  # bad files named in an error; the others are counted
_Result = TypeVar("_Result")


class Listing(NamedTuple):
    """The files of an image folder, by part, with the class of each."""

    label_names: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    validation: tuple[tuple[Path, int], ...] | None  # None: no such folder
    test: tuple[tuple[Path, int], ...] | None


def list_images(root: Path) -> Listing:
    """Return the files below ``root``, classes and files in the order of their names as text.

    Every file that is not hidden counts as a picture: whether it is one is found out when it is read.

    Raises:
        DataError: there is no such folder, an empty class folder, fewer than two classes, or a class in
            validation or test that training lacks.
    """
    root = root.expanduser()
    if not root.is_dir():
        raise DataError(
            f"data.root: {root} is {'a file' if root.exists() else 'not there'}; name a folder of pictures"
        )
    folders = {folder.name: folder for folder in _folders(root)}
    if "train" not in folders or not _folders(folders["train"]):
        return _list_unsplit(root, folders)
    names = tuple(folder.name for folder in _folders(folders["train"]))
    return Listing(
        names,
        _list_part(folders["train"], names, training=True),
        *(
            None if folder is None else _list_part(folder, names, training=False)
            for folder in (_validation_folder(root, folders), folders.get("test"))
        ),
    )


def _list_unsplit(root: Path, folders: dict[str, Path]) -> Listing:
    held_out = [name for name in (*VALIDATION_FOLDERS, "test") if name in folders and _folders(folders[name])]
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
    unknown = [found.name for found in _folders(folder) if found.name not in names]
    if unknown:
        raise DataError(
            f"{folder / unknown[0]}: training has no class {unknown[0]!r}; its classes: "
            f"{_shortened(names)}. Add the class to train/ or remove the folder"
        )
    files = [(path, label) for label, name in enumerate(names) for path in _files(folder / name)]
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


def _folders(folder: Path) -> list[Path]:
    hidden = (".", "__")  # __MACOSX, __pycache__
    return sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(hidden) and entry.is_dir()),
        key=lambda entry: entry.name,
    )


def _files(folder: Path) -> list[Path]:
    found = []
    for place, _, names in os.walk(folder, followlinks=True):
        found += [
            Path(place) / name for name in names if not name.startswith(".") and name.lower() not in _LITTER
        ]
    return sorted(found)


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" ... ({len(names)} in all)" if len(names) > 10 else "")


def in_threads(
    function: Callable[[int], _Result], count: int, *, task: str, progress: Progress
) -> list[_Result]:
    """Return ``function`` of 0 ... ``count`` - 1, in order, worked out in a few threads (Pillow frees the
    lock)."""
    results = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, result in enumerate(pool.map(function, range(count)), start=1):
            results.append(result)
            if done % 100 == 0 or done == count:
                progress.advance(task, done, count)
    return results


def read_resident(
    images: StreamImages, *, task: str, progress: Progress
) -> tuple[ResidentImages, list[str | None]]:
    """Return all the pictures, held in memory, and for each why it cannot be read (None: it can)."""
    size = images.image_size
    pixels = torch.zeros(len(images), size, size, images.channels, dtype=torch.uint8)

    def read(index: int) -> str | None:
        try:
            pixels[index] = images.read(index).permute(1, 2, 0)
        except DataError as error:
            return str(error)
        return None

    reasons = in_threads(read, len(images), task=task, progress=progress)
    return ResidentImages(pixels.permute(0, 3, 1, 2), image_size=size), reasons


def load_image_folder(config: ImageFolderConfig, *, progress: Progress) -> SourceParts:
    """Return the parts of an image folder; each file is decoded here, to name bad ones before training.

    Raises:
        DataError: see ``list_images``; bad files, with ``on_bad_image = "error"``; a part of bad files only.
    """
    listing = list_images(config.root)
    listed = {"train": listing.train, "validation": listing.validation, "test": listing.test}
    loaded = {
        name: _load_part(entries, config, task=f"reading {name} pictures", progress=progress)
        for name, entries in listed.items()
        if entries is not None
    }
    bad = [reason for _, reasons in loaded.values() for reason in reasons if reason is not None]
    if bad and config.on_bad_image == "error":
        raise DataError(_bad_files(bad, sum(len(part) for part, _ in loaded.values())))
    good = {
        name: _without_bad(part, reasons, place=f"{name} files") for name, (part, reasons) in loaded.items()
    }
    return SourceParts(
        good["train"],
        good.get("validation"),
        good.get("test"),
        listing.label_names,
        config.channels,
        0.0 if "test" in good else config.test,
        tuple(bad),
    )


def _load_part(
    entries: Sequence[tuple[Path, int]], config: ImageFolderConfig, *, task: str, progress: Progress
) -> tuple[Part, list[str | None]]:
    paths = tuple(path for path, _ in entries)
    targets = torch.tensor([label for _, label in entries])
    images = StreamImages(FilePictures(paths), image_size=config.image_size, channels=config.channels)
    if config.image_size > RESIDENT_LIMIT:
        reasons = in_threads(lambda i: bad_image_reason(paths[i]), len(paths), task=task, progress=progress)
        return Part(images, targets, paths=paths), reasons
    held, reasons = read_resident(images, task=task, progress=progress)
    return Part(held, targets, paths=paths), reasons


def _without_bad(part: Part, reasons: Sequence[str | None], *, place: str) -> Part:
    good = [i for i, reason in enumerate(reasons) if reason is None]
    if not good:
        raise DataError(
            f"data: none of the {len(part)} {place} is a picture that can be read: {reasons[0]} ..."
        )
    return part if len(good) == len(part) else part.subset(torch.tensor(good))


def _bad_files(reasons: Sequence[str], count: int) -> str:
    named = "; ".join(reasons[:_NAMED])
    more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
    return (
        f"data: {len(reasons)} of {count} files cannot be read as pictures: {named}{more}. Remove or replace "
        'them, or set data.on_bad_image = "skip" to leave them out'
    )


def class_counts(entries: Sequence[tuple[Path, int]], num_classes: int) -> list[int]:
    """Return the number of files of each class."""
    labels: Tensor = torch.tensor([label for _, label in entries])
    return torch.bincount(labels, minlength=num_classes).tolist()


__all__ = [
    "VALIDATION_FOLDERS",
    "Listing",
    "class_counts",
    "in_threads",
    "list_images",
    "load_image_folder",
    "read_resident",
]
