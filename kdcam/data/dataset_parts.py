"""What the data sources return: parts of a data set, split or not yet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import StreamImages
from kdcam.data.label_noise import NoisyLabels
from kdcam.settings.messages import first_few


@dataclass(frozen=True)
class Part:
    """The training, validation or test part of a data set."""

    images: ResidentImages | StreamImages
    targets: Tensor  # (N,) int64, after noise; multi-label (N, K) float of 0 and 1
    boxes: Tensor | None = None  # (N, 4) float x0, y0, x1, y1, pixels of the image, end exclusive;
    #                              multi-label (N, K, 4), nan where the class is absent
    paths: tuple[Path, ...] | None = None  # the files, where each image is one
    keys: Tensor | None = None  # (N, 32) uint8, the SHA-256 of the files' bytes, where they are listed
    stamps: Tensor | None = None  # (N, 4) int64, of the files when they were read; see `image_digests.Stamp`

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def subset(self, indices: Tensor) -> Self:
        """Return the part with only the images at ``indices`` (M,), in that order."""
        return replace(
            self,
            images=self.images.subset(indices),
            targets=self.targets[indices],
            boxes=None if self.boxes is None else self.boxes[indices],
            paths=None if self.paths is None else tuple(self.paths[i] for i in indices.tolist()),
            keys=None if self.keys is None else self.keys[indices],
            stamps=None if self.stamps is None else self.stamps[indices],
        )


class SourceParts(NamedTuple):
    """What a source found: parts that its authors made, and the shares still to be held out of training."""

    train: Part
    validation: Part | None
    test: Part | None
    label_names: tuple[str, ...]
    channels: int
    test_share: float = 0.0  # of training, when there is no test part
    skipped: tuple[str, ...] = ()  # files left out, each with the reason
    unread: tuple[Path, ...] = ()  # these files

    def present(self) -> list[Part]:
        """Return the parts that are there, training first."""
        return [part for part in (self.train, self.validation, self.test) if part is not None]

    def unkeyed(self) -> Self:
        """Return the same parts without the keys of their pictures."""
        train, validation, test = (
            None if part is None else replace(part, keys=None, stamps=None)
            for part in (self.train, self.validation, self.test)
        )
        assert train is not None
        return self._replace(train=train, validation=validation, test=test)


@dataclass(frozen=True)
class PictureTable:
    """The files of a source that lists them, of all its classes and parts, and what tells each from the others."""

    paths: tuple[str, ...]  # from root on
    keys: Tensor  # (N, 32) uint8
    stamps: Tensor  # (N, 4) int64
    targets: Tensor  # (N,) int64 or rows (N, K), without label noise, by the source's classes
    label_names: tuple[str, ...]  # of the source, of which a class split may take some
    unread: tuple[str, ...] = ()  # files that are no pictures


@dataclass(frozen=True)
class DataParts:
    """A data set ready for training."""

    train: Part
    validation: Part | None
    test: Part | None
    label_names: tuple[str, ...]
    channels: int
    image_size: int
    noise: NoisyLabels | None = None
    skipped: tuple[str, ...] = ()  # bad image files left out, each with the reason
    table: PictureTable | None = None  # of all files, where the source lists files

    def by_name(self) -> dict[str, Part | None]:
        """Return the parts by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}


def absent_warnings(parts: DataParts) -> list[str]:
    """Return a sentence for each of validation and test that lacks classes, with their names."""
    found = {"validation": parts.validation, "test": parts.test}
    return [
        text
        for name, part in found.items()
        if part  # of one that has lost all its pictures nothing is scored
        and (
            text := absent_text(
                name, images_per_class(part.targets, len(parts.label_names)), parts.label_names
            )
        )
    ]


def images_per_class(targets: Tensor, num_classes: int) -> list[int]:
    """Return how many images each class has, of labels (N,) or rows (N, K)."""
    if targets.ndim == 2:
        return (targets > 0).sum(0).tolist()
    return torch.bincount(targets, minlength=num_classes).tolist()


def absent_text(part: str, counts: Sequence[int], label_names: Sequence[str]) -> str | None:
    """Return in a sentence which classes a part has no image of; None: it has some of each."""
    absent = [name for name, count in zip(label_names, counts, strict=True) if count == 0]
    if not absent:
        return None
    return (
        f"the {part} part has no image of {len(absent)} of {len(label_names)} classes "
        f"({first_few(map(repr, absent))}): its scores say nothing of them"
    )


class DataSummary(NamedTuple):
    """What is known of a data set before it is read."""

    label_names: tuple[str, ...]
    channels: int
    image_size: int
    train_images: int | None  # after holding out; None where only reading tells
    note: str  # one sentence for the user
    own_validation: bool = False  # the source has a validation part, whatever the share data.validation
    warnings: tuple[str, ...] = ()  # sentences: what is legal and probably not meant


def class_names(names: Sequence[object]) -> tuple[str, ...]:
    """Return the names of the classes as text."""
    return tuple(str(name) for name in names)


__all__ = [
    "DataParts",
    "DataSummary",
    "Part",
    "PictureTable",
    "SourceParts",
    "absent_text",
    "absent_warnings",
    "class_names",
    "images_per_class",
]
