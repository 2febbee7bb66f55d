"""The images of classes that a run was not trained on, for tests of what its features tell of them."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import torch

from kdcam.data.class_split import classes_of, of_classes
from kdcam.data.config import DataConfig
from kdcam.data.datasets import load_source
from kdcam.data.parts import Part
from kdcam.data.resident import ResidentImages
from kdcam.data.streaming import PictureSource, StreamImages
from kdcam.errors import DataError
from kdcam.progress import Progress

if TYPE_CHECKING:
    from PIL.Image import Image


def novel_classes(
    config: DataConfig, part: Literal["novel", "validation"] = "novel", *, progress: Progress
) -> tuple[Part, tuple[str, ...]]:
    """Return all images of the novel (or validation) classes of a run's data, and the names of these classes.

    The images of all parts that the source has, training first, then validation and test, decoded with the sizes of
    the run; no label noise. Labels are numbered in the data's order of classes.

    Raises:
        DataError: the data has no class split or none of such classes, a class has no image, or files are missing
            or broken.
    """
    split = config.class_split
    if split is None:
        raise DataError(
            f"data ({config.name}): has no [data.class_split], so the run was trained on all classes; name other data, "
            "or train with a class split"
        )
    if part == "validation" and split.file is None and split.validation == 0:
        raise DataError(
            f"data.class_split ({config.name}): has no validation classes; take the novel ones, or train with "
            "data.class_split.validation above 0"
        )
    source = load_source(config, progress)
    names = classes_of(config, source.label_names, part)
    held = (source.train, source.validation, source.test)
    parts = [of_classes(one, source.label_names, names)[0] for one in held if one is not None]
    whole = joined([one for one in parts if len(one)])
    counts = torch.bincount(whole.targets, minlength=len(names)).tolist()
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"data ({config.name}): no image of the {part} class {empty[0]!r}; add images or remove the class"
        )
    return whole, names


class ChainedPictures:
    """The pictures of several sources, one source after the other."""

    def __init__(self, sources: Sequence[PictureSource]) -> None:
        self.sources = tuple(sources)
        self._ends = list(accumulate(len(source) for source in self.sources))

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self._ends[-1]

    def picture(self, index: int, at_least: int | None) -> "Image":
        """Return a picture, as its source does."""
        number = bisect_right(self._ends, index)
        start = self._ends[number - 1] if number else 0
        return self.sources[number].picture(index - start, at_least)


def joined(parts: Sequence[Part]) -> Part:
    """Return the images of parts of one data set (1 or more, all of one kind) as one part, in their order."""
    if not parts:
        raise DataError("data: no image of the classes asked for; add images, or ask for other classes")
    boxes = [part.boxes for part in parts if part.boxes is not None]
    paths = [part.paths for part in parts if part.paths is not None]
    return Part(
        _joined_images([part.images for part in parts]),
        torch.cat([part.targets for part in parts]),
        boxes=torch.cat(boxes) if len(boxes) == len(parts) else None,
        paths=tuple(path for of_part in paths for path in of_part) if len(paths) == len(parts) else None,
    )


def _joined_images(all_images: Sequence[ResidentImages | StreamImages]) -> ResidentImages | StreamImages:
    held = [images for images in all_images if isinstance(images, ResidentImages)]
    if held:
        return ResidentImages(torch.cat([images.pixels for images in held]), image_size=held[0].image_size)
    read = [images for images in all_images if isinstance(images, StreamImages)]
    starts = [0, *accumulate(len(images.source) for images in read)]
    return StreamImages(
        ChainedPictures([images.source for images in read]),
        image_size=read[0].image_size,
        channels=read[0].channels,
        order=torch.cat([images.order + start for images, start in zip(read, starts[:-1], strict=True)]),
    )


__all__ = ["ChainedPictures", "joined", "novel_classes"]
