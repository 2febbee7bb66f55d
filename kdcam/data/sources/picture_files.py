"""Picture files: found below a folder, checked, and read into memory when the pictures are small."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.decoding import bad_image_reason, map_in_threads
from kdcam.data.batches.image_digests import KEY_BYTES, FileKey, file_key, key_rows, stamp_rows
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import FilePictures, StreamImages
from kdcam.data.common_config import RESIDENT_LIMIT, PictureFilesConfig
from kdcam.data.dataset_parts import Part, SourceParts
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below
from kdcam.files.paths import exists, expanded, is_file, is_folder, resolved, shown
from kdcam.runtime.progress import Progress, until_stopped
from kdcam.settings.messages import first_few

_SUFFIX_NAMES = (
    "apng avif avifs bmp cr2 dds dib dng gif heic heics heif hif ico im j2c j2k jfif jp2 jpc jpe jpeg jpf "
    "jpg jpx mpo nef pbm pcx pfm pgm png pnm ppm psd qoi ras sgi tga tif tiff webp xbm xpm"
)
_PICTURE_SUFFIXES = frozenset(f".{name}" for name in _SUFFIX_NAMES.split())
_NAMED = 5  # bad files named in an error; the others are counted
_NO_KEY = FileKey(bytes(KEY_BYTES), (0, 0, 0, 0))  # of a file that is no picture, which is left out


class ListedFiles(NamedTuple):
    """The files of a part."""

    paths: tuple[Path, ...]
    targets: Tensor  # (N,) int64, or (N, K) float rows of 0 and 1


class ListedParts(NamedTuple):
    """The files of a data set, none of them opened yet."""

    label_names: tuple[str, ...]
    train: ListedFiles
    validation: ListedFiles | None  # None: to be held out of training
    test: ListedFiles | None

    def present(self) -> list[ListedFiles]:
        """Return the parts that are there, training first."""
        return [part for part in (self.train, self.validation, self.test) if part is not None]


def data_folder(root: Path) -> Path:
    """Return ``root`` with ``~`` written out; ``DataError`` where it is no folder."""
    root = expanded(root)
    if not is_folder(root):
        raise DataError(
            f"data.root: {shown(root)} is {'a file' if exists(root) else 'not there'}; name a folder of pictures ("
            "where data has moved, with --set data.root=DIR)"
        )
    return root


def named_file(root: Path, named: Path, *, key: str) -> Path:
    """Return the file that ``key`` names from ``root`` on, or by an absolute path.

    Raises ``DataError`` where it is not there, with what to write where it is in the working folder or beside ``root``.
    """
    named = expanded(named)
    file = root / named
    if is_file(file):
        return file
    found = "is no file" if exists(file) else "is not there"
    if named.is_absolute():
        raise DataError(f"{key}: {shown(file)} {found}; name the file by its path from data.root on")
    place = f"{key}: {shown(named)} is looked for in data.root, and {shown(file)} {found}"
    elsewhere = next((place for place in (named, root.parent / named) if is_file(place)), None)
    if elsewhere is None:
        raise DataError(f"{place}; name the file by its path from data.root = {shown(root)} on, or from / on")
    real, real_root = resolved(elsewhere), resolved(root)
    wanted = real.relative_to(real_root) if real.is_relative_to(real_root) else real
    raise DataError(f'{place}; to take {shown(elsewhere)}, write {key.partition(".")[2]} = "{shown(wanted)}"')


def is_picture_name(name: str) -> bool:
    """Return whether a file's suffix is a picture's, also of a kind that kdcam does not read but refuses by name."""
    return PurePath(name).suffix.lower() in _PICTURE_SUFFIXES


def readable_pictures(paths: Iterable[str | Path], *, progress: Progress) -> list[Path]:
    """Return the paths with each folder replaced by the pictures below it, all of them decoded once.

    Pictures are told by their suffixes, or begin like one where they have none; what is left out of a folder is counted
    in a message. A picture of a folder that cannot be read is left out with a warning.

    Raises ``DataError`` for a folder that holds no picture, for a file that is named itself and cannot be read as a
    picture, and where no picture is left.
    """
    found = _expanded(paths, progress)
    reasons = [bad_image_reason(path) for path, _ in until_stopped(found, progress)]
    bad = [reason for reason in reasons if reason is not None]
    named = [
        reason for reason, (_, in_folder) in zip(reasons, found, strict=True) if reason and not in_folder
    ]
    if named:
        raise DataError(
            f"{_bad_files(named, len(found))}. Remove or replace them, or name the good ones alone"
        )
    if len(bad) == len(found) > 0:
        raise DataError(
            f"{_bad_files(bad, len(found))}. Remove or replace them, or name a folder of pictures"
        )
    if bad:
        progress.warning(f"{_bad_files(bad, len(found))}; they are left out")
    return [path for reason, (path, _) in zip(reasons, found, strict=True) if reason is None]


def _expanded(paths: Iterable[str | Path], progress: Progress) -> list[tuple[Path, bool]]:
    """Return the pictures, and of each whether it was found in a folder."""
    found: list[tuple[Path, bool]] = []
    for path in map(Path, paths):
        if not is_folder(path):
            found.append((path, False))
            continue
        files = files_below(path)
        pictures = [file for file in files if is_picture_name(file.name) or _begins_like_picture(file)]
        others = len(files) - len(pictures)
        if not pictures:
            beside = f" ({others} other files)" if others else ""
            raise DataError(
                f"{shown(path)}: the folder holds no picture{beside}; name pictures or a folder of pictures"
            )
        if others:
            progress.message(
                f"{shown(path)}: {others} files that are no pictures by their names are left out"
            )
        found += [(file, True) for file in pictures]
    return found


def _begins_like_picture(path: Path) -> bool:
    return not path.suffix and bad_image_reason(path) is None


def read_resident(
    images: StreamImages, *, task: str, progress: Progress
) -> tuple[ResidentImages, list[str | None]]:
    """Return all the pictures, held in memory, and for each why it cannot be read (None: it can)."""
    held, read = _to_hold(images)
    reasons = map_in_threads(read, len(images), task=task, progress=progress)
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
    listed: ListedFiles, config: PictureFilesConfig, *, task: str, progress: Progress
) -> tuple[Part, list[str | None]]:
    """Return the pictures of files with their keys, and for each why it cannot be read (None: it can)."""
    paths = listed.paths
    source = FilePictures(paths, max_pixels=config.max_pixels)
    images = StreamImages(source, image_size=config.image_size, channels=config.channels)
    held, read = (None, None) if config.image_size > RESIDENT_LIMIT else _to_hold(images)

    def read_one(index: int) -> tuple[FileKey, str | None]:
        reason = bad_image_reason(paths[index], max_pixels=config.max_pixels) if read is None else read(index)
        return _NO_KEY if reason is not None else file_key(paths[index]), reason

    found = map_in_threads(read_one, len(paths), task=task, progress=progress)
    keys = [file.key for file, _ in found]
    source = FilePictures(paths, keys, max_pixels=config.max_pixels)
    streamed = StreamImages(source, image_size=config.image_size, channels=config.channels)
    part = Part(
        streamed if held is None else held,
        listed.targets,
        paths=paths,
        keys=key_rows(keys),
        stamps=stamp_rows([file.stamp for file, _ in found]),
    )
    return part, [reason for _, reason in found]


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
    "ListedFiles",
    "ListedParts",
    "data_folder",
    "is_picture_name",
    "load_listed",
    "named_file",
    "read_known",
    "read_resident",
    "readable_pictures",
]
