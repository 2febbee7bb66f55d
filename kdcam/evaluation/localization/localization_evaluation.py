"""localize: how well the maps of runs find the objects, written and drawn beside each run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from kdcam.cam.map_pictures import RgbImage, captioned, grid, magnified, overlay, save_png, to_picture
from kdcam.cam.maps import minmax_normalize
from kdcam.data.batches.batch import EVALUATION_BATCH
from kdcam.data.object_boxes import ObjectBoxes
from kdcam.errors import CheckpointError
from kdcam.evaluation.localization.box_accuracy import LEVELS, intersection_over_union, largest_box
from kdcam.evaluation.localization.localization_measurement import (
    BoxedImages,
    LocalizationCounts,
    LocatedMaps,
    measure_localization,
    objects_of,
)
from kdcam.evaluation.localization.localization_schema import (
    EvaluatedBoxes,
    ExcludedCounts,
    LocalizationReport,
    LocalizationSettings,
    RunLocalization,
    localization_settings,
)
from kdcam.evaluation.localization.pointing_game import byte_maps
from kdcam.evaluation.localization.prepared_runs import PreparedRun, RunPreparer
from kdcam.files.atomic_writes import check_writable, make_folder
from kdcam.files.digests import weights_digest
from kdcam.files.json_files import write_json
from kdcam.files.paths import exists, expanded
from kdcam.runs.open_run import Weights
from kdcam.runs.run_files import (
    LOCALIZATION_FILE,
    RECIPE_FILE,
    check_writable_file,
    figure_file,
    remove_figure,
)
from kdcam.runtime.progress import Progress, Silent

_LEAST_PIXELS = 160  # of a picture's side
_LINE = 2  # pixels
# Okabe and Ito 2008: told apart with any common colour vision, and both from the colours of the map
_OBJECT, _FOUND = (0.34, 0.71, 0.91), (0.0, 0.62, 0.45)


class BoxOutline(NamedTuple):
    """A box to draw."""

    edges: tuple[float, float, float, float]  # x0, y0, x1, y1 as shares of the side, end exclusive
    colour: tuple[float, float, float]


def localization_picture(runs: Sequence[tuple[PreparedRun, LocalizationReport, LocatedMaps]]) -> RgbImage:
    """Return a row of a few images for each run: the map, the objects' boxes (blue) and the box found (green).

    The box found is that of the largest region at the threshold of MaxBoxAcc (V1), with its intersection over union.

    Args:
        runs: each with the first of its maps.
    """
    rows = []
    for opened, report, located in runs:
        level = round(report.max_box.largest_region.threshold * LEVELS)
        rows.append([_image(opened, located, place, level) for place in range(len(located.maps))])
    return grid(rows, gap=4)


def with_outlines(picture: RgbImage, outlines: Sequence[BoxOutline]) -> RgbImage:
    """Return a picture (3, S, S) with boxes drawn over it."""
    drawn, side = picture.copy(), picture.shape[-1]
    for edges, colour in outlines:
        x0, y0, x1, y1 = (min(max(round(value * side), 0), side) for value in edges)
        frame = np.zeros((side, side), bool)
        frame[y0:y1, x0:x1] = True
        frame[y0 + _LINE : y1 - _LINE, x0 + _LINE : x1 - _LINE] = False
        drawn[:, frame] = np.array(colour, np.float32)[:, None]
    return drawn


def _image(opened: PreparedRun, located: LocatedMaps, place: int, level: int) -> RgbImage:
    size, resolution = located.images.shape[-1], opened.look.resolution
    map_ = byte_maps(located.maps[place : place + 1], resolution).cpu().numpy()[0]
    found = np.array(largest_box(map_, level), np.float64)
    there = located.boxes[place].isfinite().all(1).numpy()
    objects = located.boxes[place].numpy()[there]
    overlap = float(intersection_over_union(found, objects_of(located, opened.look)[place][there]).max())
    base = magnified(to_picture(located.images[place].cpu()), least=_LEAST_PIXELS)
    outlines = [BoxOutline(_shares(box / size), _OBJECT) for box in objects]
    outlines.append(BoxOutline(_shares((found + np.array([0, 0, 1, 1])) / resolution), _FOUND))
    shown = overlay(base, minmax_normalize(torch.nan_to_num(located.maps[place].cpu())))
    number = int(opened.evaluated.boxes.classes[place])
    name = opened.classifier.class_names[number] if number >= 0 else "several classes"
    lines = (opened.path.absolute().name, f"{name}: IoU {overlap:.0%}")
    return captioned(with_outlines(shown, outlines), lines)


def _shares(box: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box.tolist()
    return (x0, y0, x1, y1)


LOCALIZATION_PICTURE = "localization.png"


def localize(
    runs: str | Path | Sequence[str | Path],
    *,
    settings: Mapping[str, Any] | LocalizationSettings | None = None,
    draw: bool = True,
    figures: str | Path | None = None,
    weights: Weights = "selected",
    batch_size: int = EVALUATION_BATCH,
    device: str = "auto",
    data: Mapping[str, Any] | None = None,
    rest: bool = False,
    progress: Progress | None = None,
) -> list[RunLocalization]:
    """Return how well the maps of runs find the objects; written to localization.json in each run folder.

    MaxBoxAccV2 and MaxBoxAcc (V1), the pointing game and the energy inside the box; see
    `kdcam.evaluation.localization.box_accuracy.level_overlaps` and `kdcam.evaluation.localization.pointing_game`.

    Args:
        runs: A run folder, or several. With ``root`` also files, timm folders and names of networks with published
            weights, as `kdcam.load` takes them; nothing is written beside these.
        settings: See `kdcam.evaluation.localization.localization_schema.LocalizationSettings`; none: the labels' CAMs
        of the test part, with
            the boxes that the data knows.
        draw: Whether figures/localization.png, a few images with boxes, is drawn in each run folder; else one of
            earlier numbers is removed.
        figures: A folder for localization.png, that of all runs in one; none: no such picture.
        weights: Which epoch's weights of each run.
        batch_size: Images at a time.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        data: Keys of [data] that say where the files of the runs' data lie now; see `kdcam.runs.open_run.load_run`.
        rest: Where pictures of a run are gone or changed, those that are left are taken; else it is refused.
        progress: Who watches.

    Files are written once all runs are measured.

    Raises ``RecipeError`` for a setting, ``DataError`` for boxes, pictures or a part, ``ModelError`` for a network
    without a map, ``CheckpointError`` for a run or a file that cannot be written, ``Interrupted`` where the user asked
    to stop: then nothing is written.
    """
    watcher = progress or Silent()
    asked = settings if isinstance(settings, LocalizationSettings) else localization_settings(settings or {})
    opener = RunPreparer(
        asked, weights=weights, batch_size=batch_size, device=device, data=data, rest=rest, progress=watcher
    )
    places = [runs] if isinstance(runs, str | Path) else runs
    # All are opened first: a wrong last one is refused before the first is measured.
    opened = [opener.open(path) for path in places]
    folders = [one.path for one in opened if exists(one.path / RECIPE_FILE)]
    together = None if figures is None else expanded(figures)
    _check_places(folders, together)
    own = {folder: figure_file(folder, LOCALIZATION_PICTURE) for folder in folders}
    for file in own.values() if draw else ():
        check_writable_file(file)
    measured = [_localized(one, asked, weights, watcher) for one in opened]
    found = [run for run, _ in measured]
    shown = [(one, run.report, first) for one, (run, first) in zip(opened, measured, strict=True)]
    for run, one in zip(found, shown, strict=True):
        if run.run not in own:
            continue
        _write(run)
        if draw:
            _draw([one], own[run.run], watcher)
        else:
            remove_figure(own[run.run])
    if together is not None:
        _draw(shown, together / LOCALIZATION_PICTURE, watcher)
    return found


def _draw(
    shown: Sequence[tuple[PreparedRun, LocalizationReport, LocatedMaps]], file: Path, progress: Progress
) -> None:

    save_png(localization_picture(shown), file)
    progress.message(f"{file}: objects' boxes in blue, those found in green")


def _check_places(runs: Sequence[Path], figures: Path | None) -> None:
    for folder in runs:
        try:
            check_writable(folder)
        except CheckpointError as error:
            raise _cannot_write(folder, error) from error
    if figures is not None:
        try:
            make_folder(figures)
            check_writable(figures)
        except CheckpointError as error:
            raise CheckpointError(
                f"{figures}: no picture can be written there ({_reason(error)}); choose another folder with --figures"
            ) from error


def _write(run: RunLocalization) -> None:
    try:
        write_json(run.run / LOCALIZATION_FILE, run.to_json())
    except CheckpointError as error:
        raise _cannot_write(run.run, error) from error


def _cannot_write(run: Path, error: CheckpointError) -> CheckpointError:
    return CheckpointError(
        f"{run / LOCALIZATION_FILE}: cannot be written ({_reason(error)}); free some space, make the run's folder "
        "writable, or evaluate a copy of it"
    )


def _reason(error: CheckpointError) -> object:
    cause = error.__cause__
    return (cause.strerror or cause) if isinstance(cause, OSError) else error


def _localized(
    opened: PreparedRun, settings: LocalizationSettings, weights: Weights, progress: Progress
) -> tuple[RunLocalization, LocatedMaps]:
    """Return what is found of a run, and its first maps."""
    name = opened.path.absolute().name
    levels = None
    if opened.validation is not None:
        task = f"{name}: thresholds on validation"
        before = measure_localization(
            opened.classifier, opened.validation, opened.look, task=task, progress=progress
        )
        levels = before.tally.best_levels()
    measured = measure_localization(
        opened.classifier, opened.evaluated, opened.look, task=name, progress=progress
    )
    found = RunLocalization(
        opened.path,
        weights_digest(opened.classifier.network),
        weights,
        settings.model_dump(mode="json"),
        _report(measured, opened, settings, levels),
    )
    return found, measured.first


def _report(
    measured: LocalizationCounts,
    opened: PreparedRun,
    settings: LocalizationSettings,
    levels: Sequence[int] | None,
) -> LocalizationReport:
    rule = (
        "best of all thresholds on the evaluated images themselves, as published figures take it, one for each overlap"
        if levels is None
        else "best of all thresholds on the validation part, one for each overlap"
    )
    return LocalizationReport(
        images=measured.images,
        maps=measured.maps,
        max_box=measured.tally.accuracies(levels),
        pointing=measured.pointing,
        energy=measured.energy,
        flat_maps=measured.flat_maps,
        map=opened.look.kind,
        map_of="no class" if opened.look.kind == "caam" else settings.map_of,
        resolution=opened.look.resolution,
        contours=settings.contours,
        threshold_rule=rule,
        left_out=_left_out(opened.evaluated.boxes),
        evaluated=_evaluated(opened.evaluated),
    )


def _evaluated(sample: BoxedImages) -> EvaluatedBoxes:
    boxes = sample.boxes
    return EvaluatedBoxes(len(boxes.images.unique()), int(boxes.boxes.isfinite().all(2).sum()), sample.digest)


def _left_out(boxes: ObjectBoxes) -> ExcludedCounts:
    return ExcludedCounts(boxes.without_box, boxes.cut_away, boxes.other_class, boxes.elsewhere)


__all__ = [
    "LOCALIZATION_PICTURE",
    "BoxOutline",
    "localization_picture",
    "localize",
    "with_outlines",
]
