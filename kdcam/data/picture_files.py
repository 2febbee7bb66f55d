"""Picture files: found below a folder, checked, and read into memory when the pictures are small."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from kdcam.data.config import RESIDENT_LIMIT, PictureFilesConfig
from kdcam.data.images import bad_image_reason
from kdcam.data.parts import Part, SourceParts
from kdcam.data.picture_keys import KEY_BYTES, FileKey, file_key, key_rows, stamp_rows
from kdcam.data.resident import ResidentImages
from kdcam.data.streaming import FilePictures, StreamImages
from kdcam.errors import DataError
from kdcam.files.paths import exists, expanded, is_folder
from kdcam.progress import Progress
from kdcam.wording import first_few

_LITTER = ("thumbs.db", "desktop.ini")  # left by file managers, besides hidden files
_NAMED = 5  # bad files named in an error; the others are counted
_NO_KEY = FileKey(bytes(KEY_BYTES), (0, 0, 0, 0))  # of a file that is no picture, which is left out
_Result = TypeVar("_Result")


class Listed(NamedTuple):
    """The files of a part."""

    paths: tuple[Path, ...]
    targets: Tensor  # (N,) int64, or (N, K) float rows of 0 and 1


class ListedParts(NamedTuple):
    """The files of a data set, none of them opened yet."""

    label_names: tuple[str, ...]
    train: Listed
    validation: Listed | None  # None: to be held out of training
    test: Listed | None


def data_folder(root: Path) -> Path:
    """Return ``root`` with ``~`` written out; ``DataError`` where it is no folder."""
    root = expanded(root)
    if not is_folder(root):
        raise DataError(
            f"data.root: {root} is {'a file' if exists(root) else 'not there'}; name a folder of pictures"
        )
    return root


def folders_in(folder: Path) -> list[Path]:
    """Return the folders right below a folder that are not hidden, by name."""
    hidden = (".", "__")  # __MACOSX, __pycache__
    return sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(hidden) and is_folder(entry)),
        key=lambda entry: entry.name,
    )


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder, at any depth, that are not hidden, by path."""
    found = []
    for place, _, names in os.walk(folder, followlinks=True):
        found += [
            Path(place) / name for name in names if not name.startswith(".") and name.lower() not in _LITTER
        ]
    return sorted(found)


def expand_folders(paths: Iterable[str | Path]) -> list[Path]:
    """Return the paths with each folder replaced by the files below it that are not hidden.

    Raises ``DataError`` for a folder that holds no file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        files = files_below(path) if is_folder(path) else [path]
        if not files:
            raise DataError(f"{path}: the folder holds no picture; name pictures or a folder of pictures")
        found += files
    return found


def readable_pictures(paths: Iterable[str | Path]) -> list[Path]:
    """Return the paths with folders replaced as by ``expand_folders``, all of them decoded once.

    Raises ``DataError`` that names the files that cannot be read as pictures.
    """
    found = expand_folders(paths)
    bad = [reason for reason in map(bad_image_reason, found) if reason is not None]
    if bad:
        raise DataError(f"{_bad_files(bad, len(found))}. Remove or replace them, or name the good ones alone")
    return found


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
    held, read = _to_hold(images)
    reasons = in_threads(read, len(images), task=task, progress=progress)
    return held, reasons


def _to_hold(images: StreamImages) -> tuple[ResidentImages, Callable[[int], str | None]]:
    """Return pictures in memory, black yet, and what reads one of them and tells why it cannot be read."""
    size = images.image_size
    pixels = torch.zeros(len(images), size, size, images.channels, dtype=torch.uint8)

    def read(index: int) -> str | None:
        try:
            pixels[index] = images.read(index).permute(1, 2, 0)
        except DataError as error:
            return str(error)
        return None

    return ResidentImages(pixels.permute(0, 3, 1, 2), image_size=size), read


def load_listed(listed: ListedParts, config: PictureFilesConfig, *, progress: Progress) -> SourceParts:
    """Return the parts of listed files; each file is decoded here, to name bad ones before training.

    Raises:
        DataError: bad files, with ``on_bad_image = "error"``; a part of bad files only.
    """
    parts = {"train": listed.train, "validation": listed.validation, "test": listed.test}
    loaded = {
        name: _load_part(part, config, task=f"reading {name} pictures", progress=progress)
        for name, part in parts.items()
        if part is not None
    }
    bad = [reason for _, reasons in loaded.values() for reason in reasons if reason is not None]
    if bad and config.on_bad_image == "error":
        found = _bad_files(bad, sum(len(part) for part, _ in loaded.values()))
        raise DataError(
            f'data: {found}. Remove or replace them, or set data.on_bad_image = "skip" to leave them out'
        )
    good = {
        name: _without_bad(part, reasons, place=f"{name} files") for name, (part, reasons) in loaded.items()
    }
    return SourceParts(
        good["train"],
        good.get("validation"),
        good.get("test"),
        listed.label_names,
        config.channels,
        0.0 if "test" in good else config.test,
        tuple(bad),
        tuple(
            path
            for part, reasons in loaded.values()
            for path, reason in zip(part.paths or (), reasons, strict=True)
            if reason is not None
        ),
    )


def _load_part(
    listed: Listed, config: PictureFilesConfig, *, task: str, progress: Progress
) -> tuple[Part, list[str | None]]:
    """Return the pictures of files with their keys, and for each why it cannot be read (None: it can)."""
    paths = listed.paths
    source = FilePictures(paths, max_pixels=config.max_pixels)
    images = StreamImages(source, image_size=config.image_size, channels=config.channels)
    held, read = (None, None) if config.image_size > RESIDENT_LIMIT else _to_hold(images)

    def look(index: int) -> tuple[FileKey, str | None]:
        reason = bad_image_reason(paths[index], max_pixels=config.max_pixels) if read is None else read(index)
        return _NO_KEY if reason is not None else file_key(paths[index]), reason

    looked = in_threads(look, len(paths), task=task, progress=progress)
    keys = [found.key for found, _ in looked]
    source = FilePictures(paths, keys, max_pixels=config.max_pixels)
    streamed = StreamImages(source, image_size=config.image_size, channels=config.channels)
    part = Part(
        streamed if held is None else held,
        listed.targets,
        paths=paths,
        keys=key_rows(keys),
        stamps=stamp_rows([found.stamp for found, _ in looked]),
    )
    return part, [reason for _, reason in looked]


def read_known(files: Part, config: PictureFilesConfig, *, task: str, progress: Progress) -> Part:
    """Return a part whose ``paths`` and ``keys`` are known, with its pictures; small ones are held in memory.

    Raises ``DataError`` where one of these cannot be read.
    """
    images = files.images
    if config.image_size > RESIDENT_LIMIT or not isinstance(images, StreamImages):
        return files
    held, reasons = read_resident(images, task=task, progress=progress)
    bad = [reason for reason in reasons if reason is not None]
    if bad:
        raise DataError(f"data: {_bad_files(bad, len(files))}. Restore them")
    return replace(files, images=held)


def _without_bad(part: Part, reasons: Sequence[str | None], *, place: str) -> Part:
    good = [i for i, reason in enumerate(reasons) if reason is None]
    if not good:
        raise DataError(
            f"data: none of the {len(part)} {place} is a picture that can be read: {reasons[0]} ..."
        )
    return part if len(good) == len(part) else part.subset(torch.tensor(good))


def _bad_files(reasons: Sequence[str], count: int) -> str:
    named = first_few(reasons, most=_NAMED, between="; ")
    return f"{len(reasons)} of {count} files cannot be read as pictures: {named}"


__all__ = [
    "Listed",
    "ListedParts",
    "data_folder",
    "expand_folders",
    "files_below",
    "folders_in",
    "in_threads",
    "load_listed",
    "read_known",
    "read_resident",
    "readable_pictures",
]
