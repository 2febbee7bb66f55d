"""The images of classes that a run was not trained on, for tests of what its features tell of them."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

import torch

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import PictureSource, StreamImages
from kdcam.data.dataset_parts import Part
from kdcam.data.datasets import load_source
from kdcam.data.source_configs import DataConfig
from kdcam.data.splits.class_split import classes_of, select_classes
from kdcam.errors import DataError
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import first_few

if TYPE_CHECKING:
    from PIL.Image import Image


def novel_classes(
    config: DataConfig,
    part: Literal["novel", "validation"] = "novel",
    *,
    trained_on: Sequence[str] = (),
    progress: Progress,
) -> tuple[Part, tuple[str, ...]]:
    """Return all images of the novel (or validation) classes of a run's data, and the names of these classes.

    The images of all parts that the source has, training first, then validation and test, decoded with the sizes of
    the run; no label noise. Labels are numbered in the data's order of classes. Files that the data leaves out
    (data.on_bad_image = "skip") are told.

    Args:
        config: The run's data.
        part: Which of the classes that it was not trained on.
        trained_on: The classes that the run was trained on, which the split must still give; none: not checked.
        progress: Who watches.

    Raises:
        DataError: the data has no class split or none of such classes, its split is another one now than the run's, a
            class has no image, or files are missing or broken.
    """
    _check_has(config, part)
    source = load_source(config, progress)
    names = novel_names(config, source.label_names, part, trained_on=trained_on)
    if source.skipped:
        progress.warning(
            f"{len(source.skipped)} files of the data left out: {first_few(source.skipped, between='; ')}"
        )
    parts = [select_classes(one, source.label_names, names)[0] for one in source.present()]
    whole = join_parts([one for one in parts if len(one)])
    check_each_class(config, whole, names, part)
    return whole, names


def novel_names(
    config: DataConfig,
    label_names: Sequence[str],
    part: Literal["novel", "validation"] = "novel",
    *,
    trained_on: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the names of the novel (or validation) classes of a run's data, of all classes ``label_names``.

    Raises ``DataError`` as `novel_classes` does.
    """
    _check_has(config, part)
    if trained_on:
        _check_split(config, classes_of(config, label_names), tuple(trained_on))
    return classes_of(config, label_names, part)


def check_each_class(config: DataConfig, images: Part, names: Sequence[str], part: str) -> None:
    """Raise ``DataError`` where one of the classes has no image."""
    counts = torch.bincount(images.targets, minlength=len(names)).tolist()
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"data ({config.name}): no image of the {part} class {empty[0]!r}; add images or remove the class"
        )


def _check_has(config: DataConfig, part: Literal["novel", "validation"]) -> None:
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


def _check_split(config: DataConfig, now: tuple[str, ...], then: tuple[str, ...]) -> None:
    if now == then:
        return
    gone, new = ([name for name in one if name not in other] for one, other in ((then, now), (now, then)))
    change = "in another order"
    if gone or new:
        change = f"of which {first_few(map(repr, gone))} then alone, {first_few(map(repr, new))} now alone"
    raise DataError(
        f"data.class_split ({config.name}): the run was trained on {len(then)} classes, and the split makes {len(now)} "
        f"now, {change}; give the data and the split back what they were, or train anew"
    )


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


def join_parts(parts: Sequence[Part]) -> Part:
    """Return the images of parts of one data set (1 or more, all of one kind) as one part, in their order."""
    if not parts:
        raise DataError("data: no image of the classes asked for; add images, or ask for other classes")
    boxes = [part.boxes for part in parts if part.boxes is not None]
    paths = [part.paths for part in parts if part.paths is not None]
    keys = [part.keys for part in parts if part.keys is not None]
    return Part(
        _joined_images([part.images for part in parts]),
        torch.cat([part.targets for part in parts]),
        boxes=torch.cat(boxes) if len(boxes) == len(parts) else None,
        paths=tuple(path for of_part in paths for path in of_part) if len(paths) == len(parts) else None,
        keys=torch.cat(keys) if len(keys) == len(parts) else None,
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


__all__ = ["ChainedPictures", "check_each_class", "join_parts", "novel_classes", "novel_names"]
