"""What is in a folder of pictures, from its file names and headers, and what the machine computes with."""

import math
from pathlib import Path
from typing import NamedTuple

from kdcam.data.folders import Listing, class_counts, list_images
from kdcam.data.images import picture_file
from kdcam.errors import DataError
from kdcam.files.paths import expanded, resolved

_SAMPLE = 400  # pictures whose header is read


class FolderFacts(NamedTuple):
    """What an image folder holds."""

    root: Path
    label_names: tuple[str, ...]
    train_counts: tuple[int, ...]  # files of each class, those still to be held out included
    has_validation: bool  # a folder of its own
    has_test: bool
    short_sides: tuple[int, ...]  # pixels, of the pictures sampled, rising
    is_gray: bool  # all pictures sampled
    unreadable: tuple[str, ...]  # of the sample, each with the reason


class MachineFacts(NamedTuple):
    """What a machine computes with."""

    cores: int
    gpu: str | None  # its name


def measure_folder(root: Path) -> FolderFacts:
    """Return what a folder holds: its files are listed, and the headers of some hundred pictures read.

    Raises ``DataError``: see `list_images`; or when no picture of the sample can be read.
    """
    listing = list_images(root)
    paths = _sample(listing)
    sides, gray, unreadable = [], True, []
    for path in paths:
        header = _header(path)
        if isinstance(header, str):
            unreadable.append(header)
            continue
        sides.append(header[0])
        gray &= header[1]
    if not sides:
        raise DataError(
            f"{root}: not one of {len(paths)} files looked at is a picture; first: {unreadable[0]}"
        )
    return FolderFacts(
        root=resolved(expanded(root)),
        label_names=listing.label_names,
        train_counts=tuple(class_counts(listing.train, len(listing.label_names))),
        has_validation=listing.validation is not None,
        has_test=listing.test is not None,
        short_sides=tuple(sorted(sides)),
        is_gray=gray,
        unreadable=tuple(unreadable),
    )


def _sample(listing: Listing) -> list[Path]:
    """Return paths spread evenly over the files, which are in the order of the classes."""
    step = max(1, math.ceil(len(listing.train) / _SAMPLE))
    return [path for path, _ in listing.train[::step]]


def _header(path: Path) -> tuple[int, bool] | str:
    """Return a picture's shorter side and whether it is gray, from its header, or why it cannot be read."""
    try:
        with picture_file(path) as image:
            return min(image.size), image.mode in ("1", "L", "LA", "I", "I;16", "F")
    except DataError as error:
        return str(error)


def measure_machine() -> MachineFacts:
    """Return the cores and the GPU of this machine."""
    import torch

    from kdcam.machine import describe_machine

    gpu = None
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name(0)
    elif torch.backends.mps.is_available():
        gpu = "the Mac's GPU"
    return MachineFacts(describe_machine()["cores"], gpu)


__all__ = ["FolderFacts", "MachineFacts", "measure_folder", "measure_machine"]
