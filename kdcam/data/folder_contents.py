"""What is in a folder of pictures: its files, read once, with their classes; and what the machine computes with."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kdcam.data.batches.decoding import picture_file
from kdcam.data.common_config import RESIDENT_LIMIT
from kdcam.data.dataset_parts import SourceParts, absent_warnings, images_per_class
from kdcam.data.datasets import list_source, load_source, prepare_parts
from kdcam.data.source_configs import ImageFolderConfig, ImageLabelsConfig, YoloLabelsConfig
from kdcam.data.sources.part_names import looks_like_part
from kdcam.data.sources.picture_files import ListedParts, data_folder
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_in, folders_in, is_utf8
from kdcam.files.paths import expanded, is_file, resolved, shown
from kdcam.runtime.machine import describe_machine
from kdcam.runtime.progress import Progress

_SAMPLE = 400  # pictures whose header is read
_READ = 20_000  # files that are all read; of more, only the sample is looked at (kdcam's choice)
_LABEL_FILES = (".csv", ".json")

FolderConfig = ImageFolderConfig | ImageLabelsConfig | YoloLabelsConfig


class PartSizes(NamedTuple):
    """How many pictures each part has, and what should be known of them."""

    train: int
    validation: int
    test: int
    warnings: tuple[str, ...]


class FolderFacts(NamedTuple):
    """What a folder of pictures holds."""

    config: FolderConfig  # lists the data; its other settings mean nothing
    label_names: tuple[str, ...]
    # of each class, those still to be held out included: pictures, or files where not all were read
    train_counts: tuple[int, ...]
    images: int  # all of training, those still to be held out included
    own_validation: int | None  # images of the part; None: there is none, and a share is held out
    own_test: int | None
    short_sides: tuple[int, ...]  # pixels, of the pictures sampled, rising
    is_gray: bool  # all pictures sampled
    # files that are no pictures, each with the reason; of the sample where not all were read
    unreadable: tuple[str, ...]
    read: SourceParts | None = None  # all that can be read; None: not all files were read

    def sizes(self, *, test: float | None, validation: float | None) -> PartSizes:
        """Return what shares held out make of the pictures, about where not all were read; None: the part is there.

        Raises ``DataError`` where a share holds nothing out, or a class has no picture to train on.
        """
        if self.read is None:
            held_test = 0 if test is None else round(test * self.images)
            held_validation = 0 if validation is None else round(validation * (self.images - held_test))
            return PartSizes(
                self.images - held_test - held_validation,
                held_validation if self.own_validation is None else self.own_validation,
                held_test if self.own_test is None else self.own_test,
                (),
            )
        shares = {"test": test or 0.0, "validation": validation or 0.0}
        parts = prepare_parts(
            self.read._replace(test_share=shares["test"]), self.config.model_copy(update=shares)
        )
        return PartSizes(
            len(parts.train),
            len(parts.validation or ()),
            len(parts.test or ()),
            tuple(absent_warnings(parts)),
        )


class MachineFacts(NamedTuple):
    """What a machine computes with."""

    cores: int
    gpu: str | None  # its name


def measure_folder(root: Path, *, labels: Path | None = None, progress: Progress) -> FolderFacts:
    """Return what a folder holds; each picture is read once, or, of more than some thousand, the headers of some.

    Args:
        root: Class folders or parts of them; YOLO's images/ and labels/; or, with ``labels``, pictures that it names.
        labels: A CSV or JSON file of image-labels, from the working folder on.
        progress: Who watches.

    Raises ``DataError``: see `list_images`, `list_labelled` and `list_yolo`; or when no picture can be read.
    """
    root = resolved(data_folder(root))
    for path in (root, labels):
        if path is not None and not is_utf8(str(path)):
            raise DataError(f"{shown(path)}: the path is not UTF-8, so that no recipe can name it; rename it")
    config = _config(root, labels)
    listed = _listed(config)
    paths = listed.train.paths
    headers = [_header(path) for path in paths[:: max(1, math.ceil(len(paths) / _SAMPLE))]]
    seen = [header for header in headers if not isinstance(header, str)]
    unreadable = tuple(header for header in headers if isinstance(header, str))
    if not seen:
        raise DataError(
            f"{shown(root)}: not one of {len(headers)} files looked at is a picture; first: {unreadable[0]}"
        )
    files = sum(len(part.paths) for part in listed.present())
    read = load_source(config, progress) if files <= _READ else None
    targets = listed.train.targets if read is None else read.train.targets
    held = (listed.validation, listed.test) if read is None else (read.validation, read.test)
    own_validation, own_test = (None if part is None else len(part.targets) for part in held)
    return FolderFacts(
        config=config,
        label_names=listed.label_names,
        train_counts=tuple(images_per_class(targets, len(listed.label_names))),
        images=len(targets),
        own_validation=own_validation,
        own_test=own_test,
        short_sides=tuple(sorted(side for side, _ in seen)),
        is_gray=all(gray for _, gray in seen),
        unreadable=unreadable if read is None else read.skipped,
        read=read,
    )


def _config(root: Path, labels: Path | None) -> FolderConfig:
    """Return settings that list the data; its pictures are larger than those held in memory, so that none is."""
    settings: dict[str, Any] = {"root": root, "image_size": RESIDENT_LIMIT + 1, "on_bad_image": "skip"}
    if labels is not None:
        return ImageLabelsConfig(labels=_from_root(labels, root), **settings)
    inner = folders_in(root)
    of_parts = [folders_in(folder) for folder in inner if looks_like_part(folder.name)]
    if any({"images", "labels"} <= {folder.name for folder in folders} for folders in (inner, *of_parts)):
        return YoloLabelsConfig(**settings)
    return ImageFolderConfig(**settings)


def _from_root(labels: Path, root: Path) -> Path:
    labels = expanded(labels)
    if labels.suffix.lower() not in _LABEL_FILES:
        raise DataError(
            f"{shown(labels)}: is no label file; name one that ends in {' or '.join(_LABEL_FILES)}"
        )
    if not is_file(labels):
        raise DataError(f"{shown(labels)}: there is no such label file; name it from the working folder on")
    real = resolved(labels)
    return real.relative_to(root) if real.is_relative_to(root) else real


def _listed(config: FolderConfig) -> ListedParts:
    """Return the files; where there are no class folders, the error points to label files beside the pictures."""
    try:
        return list_source(config)
    except DataError as error:
        if not isinstance(config, ImageFolderConfig):
            raise
        files = [file for file in files_in(config.root) if file.suffix.lower() in _LABEL_FILES]
        if not files:
            raise
        raise DataError(
            f"{error}; if {files[0].name} tells the labels of the pictures, add --labels {shown(files[0])}"
        ) from error


def _header(path: Path) -> tuple[int, bool] | str:
    """Return a picture's shorter side and whether it is gray, from its header, or why it cannot be read."""
    try:
        with picture_file(path) as image:
            return min(image.size), image.mode in ("1", "L", "LA", "I", "I;16", "F")
    except DataError as error:
        return str(error)


def measure_machine() -> MachineFacts:
    """Return the cores and the GPU of this machine."""
    gpu = None
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(0)
    elif torch.backends.mps.is_available():
        gpu = "the Mac's GPU"
    return MachineFacts(describe_machine()["cores"], gpu)


__all__ = ["FolderConfig", "FolderFacts", "MachineFacts", "PartSizes", "measure_folder", "measure_machine"]
