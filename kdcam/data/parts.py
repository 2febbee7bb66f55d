"""What the data sources return: parts of a data set, split or not yet."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

from torch import Tensor

from kdcam.data.label_noise import NoisyLabels
from kdcam.data.resident import ResidentImages
from kdcam.data.streaming import StreamImages


@dataclass(frozen=True)
class Part:
    """The training, validation or test part of a data set."""

    images: ResidentImages | StreamImages
    targets: Tensor  # (N,) int64, after noise; multi-label (N, K) float of 0 and 1
    boxes: Tensor | None = None  # (N, 4) float x0, y0, x1, y1, pixels of the image, end exclusive;
    #                              multi-label (N, K, 4), nan where the class is absent
    paths: tuple[Path, ...] | None = None  # the files, where each image is one

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


class DataSummary(NamedTuple):
    """What is known of a data set before it is read."""

    label_names: tuple[str, ...]
    channels: int
    image_size: int
    train_images: int | None  # after holding out; None where only reading tells
    note: str  # one sentence for the user
    own_validation: bool = False  # the source has a validation part, whatever the share data.validation


def class_names(names: Sequence[object]) -> tuple[str, ...]:
    """Return the names of the classes as text."""
    return tuple(str(name) for name in names)


__all__ = ["DataParts", "DataSummary", "Part", "SourceParts", "class_names"]
