"""A run made ready to be measured: its network, the images whose boxes are known, these boxes and their digest."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.data.box_files import BoxLine, read_boxes
from kdcam.data.common_config import PictureFilesConfig
from kdcam.data.dataset_parts import Part
from kdcam.data.object_boxes import (
    ObjectBoxes,
    boxes_of_part,
    boxes_of_source,
    named_pictures,
    one_row_per_image,
)
from kdcam.data.splits.held_out import drawn_positions
from kdcam.errors import CheckpointError, DataError, RecipeError
from kdcam.evaluation.localization.localization_measurement import BoxedImages, MapOptions, map_kind_for
from kdcam.evaluation.localization.localization_schema import LocalizationSettings
from kdcam.files.paths import exists, expanded
from kdcam.models.classifier import Classifier
from kdcam.runs.open_run import LoadedRun, Weights, load, load_run
from kdcam.runs.run_data import warn_of_trained
from kdcam.runs.run_files import RECIPE_FILE
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import reason_text
from kdcam.settings.validation import key_and_flag

_BOX_STEPS = 1_000_000  # of an image's side: boxes that differ by rounding alone are the same
_WORKERS = 2  # processes that decode pictures which are no part of a run's data: kdcam's choice


class PreparedRun(NamedTuple):
    """One run, ready."""

    path: Path
    classifier: Classifier
    options: MapOptions
    evaluated: BoxedImages
    validation: BoxedImages | None  # where the thresholds are found there


class _KnownBoxes(NamedTuple):
    """Images with known boxes, as runs share them."""

    part: Part  # the images to evaluate
    boxes: ObjectBoxes  # of these
    digest: str  # see `evaluated_digest`


class RunPreparer:
    """Makes runs ready one after the other; files of boxes, and images that runs share, are held once."""

    def __init__(
        self,
        settings: LocalizationSettings,
        *,
        weights: Weights,
        batch_size: int,
        device: str,
        data: Mapping[str, Any] | None = None,
        rest: bool = False,
        progress: Progress,
    ) -> None:
        """Read the file of boxes; raises ``DataError`` for a bad one."""
        self._settings, self._weights, self._batch_size = settings, weights, batch_size
        self._device, self._progress = device, progress
        self._data, self._rest = data, rest
        self._known: dict[tuple[object, ...], _KnownBoxes] = {}
        # Such maps are the same for all boxes of an image.
        self._map_an_image = settings.map == "caam" or settings.map_of == "predicted"
        self._lines: Sequence[BoxLine] | None = None
        if settings.boxes is not None:
            self._lines = read_boxes(
                settings.boxes, box_ends=settings.box_ends, class_column=settings.class_column
            )

    def prepare(self, path: str | Path) -> PreparedRun:
        """Return a run with the images to evaluate.

        Raises ``CheckpointError`` for the run, ``DataError`` for its data or boxes, ``ModelError`` for a network
        without a map, ``RecipeError`` for settings that cannot be of it.
        """
        if self._settings.root is not None:
            return self._prepare_pictures(Path(path), self._settings.root)
        if not exists(expanded(path) / RECIPE_FILE):
            raise CheckpointError(
                f"{path}: holds no {RECIPE_FILE}, so it is no run folder; name one that `kdcam train` made, or, for "
                f"any network, a folder of pictures ({key_and_flag('root')}) and their {key_and_flag('boxes')}"
            )
        loaded = load_run(
            path,
            weights=self._weights,
            device=self._device,
            data=self._data,
            rest=self._rest,
            progress=self._progress,
        )
        name = self._settings.part or "test"
        known = self._known_of_part(loaded, name)
        other = self._settings.threshold_from == "validation"
        validation = self._sample(loaded, self._known_of_part(loaded, "validation")) if other else None
        options = self._map_options(loaded.path, loaded.classifier, drawn=known.part.paths is None)
        return PreparedRun(loaded.path, loaded.classifier, options, self._sample(loaded, known), validation)

    def _prepare_pictures(self, path: Path, root: Path) -> PreparedRun:
        classifier = load(path, weights=self._weights, device=self._device)
        options = self._map_options(path, classifier, drawn=False)
        key = (classifier.class_names, classifier.image_size, classifier.in_channels)
        known = self._known.get(key) or self._known_of_pictures(classifier, root)
        self._known[key] = known
        warn_of_trained(path, known.part.paths or (), str(root), self._progress)
        assert isinstance(known.part.images, StreamImages)
        batches = StreamBatches(
            known.part.images,
            known.part.targets,
            batch_size=self._batch_size,
            training=False,
            augment=(),
            workers=_WORKERS,
            seed=0,
            device=classifier.mean.device,
        )
        return PreparedRun(path, classifier, options, BoxedImages(batches, known.boxes, known.digest), None)

    def _known_of_pictures(self, classifier: Classifier, root: Path) -> _KnownBoxes:
        names, size = classifier.class_names, classifier.image_size
        pictures = named_pictures(self._lines or (), root=root, label_names=names, image_size=size)
        source = FilePictures(pictures.paths)
        images = StreamImages(source, image_size=size, channels=classifier.in_channels)
        return self._selected(Part(images, pictures.targets, paths=pictures.paths), pictures.boxes)

    def _known_of_part(self, loaded: LoadedRun, name: str) -> _KnownBoxes:
        part = loaded.part(name)
        key = (loaded.recipe.data.model_dump_json(), loaded.pictures, name)
        if key in self._known:
            return self._known[key]
        if name == "train" and loaded.parts.noise is not None:
            part = replace(part, targets=loaded.parts.noise.clean)
            self._progress.message(
                f"{loaded.path}: its training labels are noisy; the maps measured are those of the labels before noise"
            )
        boxes = self._boxes_of_part(loaded, part, name)
        if len(boxes.images) == 0:
            raise DataError(
                f"{loaded.path}: the middle squares of its {name} images show none of the {boxes.cut_away} objects"
            )
        return self._known.setdefault(key, self._selected(part, boxes))

    def _boxes_of_part(self, loaded: LoadedRun, part: Part, name: str) -> ObjectBoxes:
        """Return the boxes of the file, where one is named, else the data's own."""
        if self._lines is not None:
            config = loaded.recipe.data
            root = config.root if isinstance(config, PictureFilesConfig) else None
            lines = _lines_now(self._lines, loaded)
            return boxes_of_part(lines, part, root=root, label_names=loaded.parts.label_names)
        boxes = boxes_of_source(part)
        if boxes is None:
            raise DataError(
                f"{loaded.path}: its data knows no boxes of its {name} images; name a file of them with --boxes "
                "(a CSV file with the columns path, x0, y0, x1, y1, or Tiny-ImageNet's files)"
            )
        return boxes

    def _selected(self, part: Part, boxes: ObjectBoxes) -> _KnownBoxes:
        """Return the images to take and their boxes."""
        chosen = self._chosen(boxes, part.targets)
        boxes = boxes_of_images(one_row_per_image(boxes) if self._map_an_image else boxes, chosen)
        if len(chosen) < len(part):  # else the pixels need no copy
            part = part.subset(chosen)
        return _KnownBoxes(part, boxes, evaluated_digest(part, boxes))

    def _sample(self, loaded: LoadedRun, known: _KnownBoxes) -> BoxedImages:
        return BoxedImages(loaded.batches(known.part, batch_size=self._batch_size), known.boxes, known.digest)

    def _chosen(self, boxes: ObjectBoxes, targets: Tensor) -> Tensor:
        """Return the positions, in order, of the images to take: at most as many as asked for, all with a box."""
        images = boxes.images.unique()
        wanted = self._settings.n_examples or len(images)
        of_these = targets[images]
        one_label = of_these.ndim == 1 and bool((of_these >= 0).all())
        drawn = drawn_positions(of_these, wanted) if one_label and wanted < len(images) else None
        chosen: Tensor = images[:wanted] if drawn is None else images[drawn].sort().values
        return chosen

    def _map_options(self, path: Path, classifier: Classifier, *, drawn: bool) -> MapOptions:
        settings = self._settings
        if classifier.task == "multi-label" and settings.map_of == "predicted":
            raise RecipeError(
                f"localize.{key_and_flag('map_of')}: found predicted, but {path} has several labels an image "
                "and says no single class; take label, for the labels' maps"
            )
        kind = map_kind_for(classifier, settings.map)
        if kind != settings.map:
            self._progress.warning(
                f"{path}: {classifier.config.name} has no exact class activation map, so {kind} is measured instead "
                f"of {settings.map}"
            )
        resolution = settings.resolution_for(image_size=classifier.image_size, drawn=drawn)
        return MapOptions(kind, settings.map_of == "label", resolution, settings.contours)


def boxes_of_images(boxes: ObjectBoxes, chosen: Tensor) -> ObjectBoxes:
    """Return the boxes of some images (n,), sorted positions, numbered from 0 on in this order."""
    of_chosen = torch.isin(boxes.images, chosen)
    return boxes._replace(
        images=torch.searchsorted(chosen, boxes.images[of_chosen]),
        classes=boxes.classes[of_chosen],
        boxes=boxes.boxes[of_chosen],
        pixels=boxes.pixels[of_chosen],
    )


def _lines_now(lines: Sequence[BoxLine], loaded: LoadedRun) -> list[BoxLine]:
    """Return lines of boxes with their pictures as these are called now; boxes of lost pictures are left out.

    A name is that of the picture that bore it when the run was made.
    """
    lost = {
        name
        for missing in loaded.missing.values()
        for name in (*missing.gone, *missing.edited, *missing.relabelled)
    }
    now = {_plain_name(former): _plain_name(path) for former, path in loaded.renamed.items()}
    now_by_name = {Path(former).name: Path(path).name for former, path in loaded.renamed.items()}

    def picture_now(line: BoxLine) -> str:
        if line.by_name:
            return now_by_name.get(line.picture, line.picture)
        return now.get(_plain_name(line.picture), line.picture)

    return [
        line._replace(picture=picture_now(line))
        for line in lines
        if line.by_name or _plain_name(line.picture) not in lost
    ]


def _plain_name(path: str) -> str:
    """Return a path from a folder on without ``.`` and ``..``, with slashes."""
    return Path(os.path.normpath(path)).as_posix()


def evaluated_digest(part: Part, boxes: ObjectBoxes) -> str:
    """Return a digest (SHA-256) of images with the classes and boxes that are held against their maps.

    Where files lie, what they are called and in which order they come makes no difference, nor does the size that
    their pictures are brought to: boxes count as shares of the image's side. Of images in memory the pixels count.

    Args:
        part: the images.
        boxes: of these.

    Raises ``DataError`` where a file cannot be read.
    """
    shares = (boxes.boxes / boxes.image_size * _BOX_STEPS).round()
    lines, content = [], dict[int, str]()
    for image, number, rows in zip(
        boxes.images.tolist(), boxes.classes.tolist(), shares.tolist(), strict=True
    ):
        if image not in content:
            content[image] = hashlib.sha256(_content(part, image)).hexdigest()
        # nan: there is none
        known = sorted([int(value) for value in row] for row in rows if not math.isnan(row[0]))
        lines.append(f"{content[image]} {number} {known}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _content(part: Part, index: int) -> bytes:
    if part.paths is not None:
        path = part.paths[index]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({reason_text(error)})") from None
    images = part.images
    pixels = images.pixels[index] if isinstance(images, ResidentImages) else images.read(index)
    return pixels.cpu().contiguous().numpy().tobytes()


__all__ = [
    "PreparedRun",
    "RunPreparer",
    "boxes_of_images",
    "evaluated_digest",
]
