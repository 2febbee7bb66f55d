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
    byte_maps,
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
from kdcam.settings.messages import reason_text

LOCALIZATION_PICTURE = "localization.png"
_LINE = 2  # pixels
# Okabe and Ito 2008: told apart with any common colour vision, and both from the colours of the map
_OBJECT, _FOUND = (0.34, 0.71, 0.91), (0.0, 0.62, 0.45)


class MeasuredRun(NamedTuple):
    """A run with what was found of it, and the first of its maps for a picture."""

    prepared: PreparedRun
    result: RunLocalization
    first: LocatedMaps


class BoxOutline(NamedTuple):
    """A box to draw."""

    edges: tuple[float, float, float, float]  # x0, y0, x1, y1 as shares of the side, end exclusive
    colour: tuple[float, float, float]


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
    `kdcam.evaluation.localization.box_accuracy.level_overlaps` and
    `kdcam.evaluation.localization.localization_measurement`.

    Args:
        runs: A run folder, or several. With ``root`` also files, timm folders and names of networks with published
            weights, as `kdcam.load` takes them; nothing is written beside these.
        settings: See `kdcam.evaluation.localization.localization_schema.LocalizationSettings`; none: the labels' CAMs
            of the test part, with the boxes that the data knows.
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
    preparer = RunPreparer(
        asked, weights=weights, batch_size=batch_size, device=device, data=data, rest=rest, progress=watcher
    )
    run_paths = [runs] if isinstance(runs, str | Path) else runs
    # All are prepared first: a wrong last one is refused before the first is measured.
    prepared = [preparer.prepare(path) for path in run_paths]
    folders = [one.path for one in prepared if exists(one.path / RECIPE_FILE)]
    together = None if figures is None else expanded(figures)
    _check_outputs(folders, together, draw=draw)
    measured = [_measure_run(one, asked, weights, watcher) for one in prepared]
    for one in measured:
        if one.prepared.path in folders:
            _write(one, draw=draw, progress=watcher)
    if together is not None:
        _draw(measured, together / LOCALIZATION_PICTURE, watcher)
    return [one.result for one in measured]


def _check_outputs(runs: Sequence[Path], figures: Path | None, *, draw: bool) -> None:
    """Raise ``CheckpointError`` where a file cannot be written, before anything is measured."""
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
    for folder in runs if draw else ():
        check_writable_file(figure_file(folder, LOCALIZATION_PICTURE))


def _measure_run(
    prepared: PreparedRun, settings: LocalizationSettings, weights: Weights, progress: Progress
) -> MeasuredRun:
    name, classifier, options = prepared.path.absolute().name, prepared.classifier, prepared.options
    levels = None
    if prepared.validation is not None:
        task = f"{name}: thresholds on validation"
        validation = measure_localization(
            classifier, prepared.validation, options, task=task, progress=progress
        )
        levels = validation.tally.best_levels()
    counts = measure_localization(classifier, prepared.evaluated, options, task=name, progress=progress)
    result = RunLocalization(
        prepared.path,
        weights_digest(classifier.network),
        weights,
        settings.model_dump(mode="json"),
        _report(counts, prepared, settings, levels),
    )
    return MeasuredRun(prepared, result, counts.first)


def _report(
    counts: LocalizationCounts,
    prepared: PreparedRun,
    settings: LocalizationSettings,
    levels: Sequence[int] | None,
) -> LocalizationReport:
    rule = (
        "best of all thresholds on the evaluated images themselves, as published figures take it, one for each overlap"
        if levels is None
        else "best of all thresholds on the validation part, one for each overlap"
    )
    return LocalizationReport(
        images=counts.images,
        maps=counts.maps,
        max_box=counts.tally.accuracies(levels),
        pointing=counts.pointing,
        energy=counts.energy,
        flat_maps=counts.flat_maps,
        map=prepared.options.kind,
        map_of="no class" if prepared.options.kind == "caam" else settings.map_of,
        resolution=prepared.options.resolution,
        contours=settings.contours,
        threshold_rule=rule,
        left_out=_excluded_counts(prepared.evaluated.boxes),
        evaluated=_evaluated_boxes(prepared.evaluated),
    )


def _evaluated_boxes(sample: BoxedImages) -> EvaluatedBoxes:
    boxes = sample.boxes
    return EvaluatedBoxes(len(boxes.images.unique()), int(boxes.boxes.isfinite().all(2).sum()), sample.digest)


def _excluded_counts(boxes: ObjectBoxes) -> ExcludedCounts:
    return ExcludedCounts(boxes.without_box, boxes.cut_away, boxes.other_class, boxes.elsewhere)


def _write(run: MeasuredRun, *, draw: bool, progress: Progress) -> None:
    """Write what was found into the run's folder."""
    folder = run.prepared.path
    try:
        write_json(folder / LOCALIZATION_FILE, run.result.to_json())
    except CheckpointError as error:
        raise _cannot_write(folder, error) from error
    picture = figure_file(folder, LOCALIZATION_PICTURE)
    if draw:
        _draw([run], picture, progress)
    else:
        remove_figure(picture)


def _cannot_write(run: Path, error: CheckpointError) -> CheckpointError:
    return CheckpointError(
        f"{run / LOCALIZATION_FILE}: cannot be written ({_reason(error)}); free some space, make the run's folder "
        "writable, or evaluate a copy of it"
    )


def _reason(error: CheckpointError) -> str:
    cause = error.__cause__
    return reason_text(cause if isinstance(cause, OSError) else error)


def _draw(runs: Sequence[MeasuredRun], file: Path, progress: Progress) -> None:
    save_png(localization_picture(runs), file)
    progress.message(f"{file}: objects' boxes in blue, those found in green")


def localization_picture(runs: Sequence[MeasuredRun]) -> RgbImage:
    """Return a row of a few images for each run: the map, the objects' boxes (blue) and the box found (green).

    The box found is that of the largest region at the threshold of MaxBoxAcc (V1), with its intersection over union.
    """
    return grid([[_panel(run, index) for index in range(len(run.first.maps))] for run in runs], gap=4)


def _panel(run: MeasuredRun, index: int) -> RgbImage:
    prepared, located, options = run.prepared, run.first, run.prepared.options
    size, resolution = located.images.shape[-1], options.resolution
    level = round(run.result.report.max_box.largest_region.threshold * LEVELS)
    map_ = byte_maps(located.maps[index : index + 1], resolution).cpu().numpy()[0]
    found = np.array(largest_box(map_, level), np.float64)
    known = located.boxes[index].isfinite().all(1).numpy()
    objects = located.boxes[index].numpy()[known]
    overlap = float(intersection_over_union(found, objects_of(located, options)[index][known]).max())
    base = magnified(to_picture(located.images[index].cpu()))
    outlines = [BoxOutline(_shares(box / size), _OBJECT) for box in objects]
    outlines.append(BoxOutline(_shares((found + np.array([0, 0, 1, 1])) / resolution), _FOUND))
    shown = overlay(base, minmax_normalize(torch.nan_to_num(located.maps[index].cpu())))
    number = int(prepared.evaluated.boxes.classes[index])
    name = prepared.classifier.class_names[number] if number >= 0 else "several classes"
    lines = (prepared.path.absolute().name, f"{name}: IoU {overlap:.0%}")
    return captioned(with_outlines(shown, outlines), lines)


def _shares(box: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box.tolist()
    return (x0, y0, x1, y1)


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


__all__ = [
    "LOCALIZATION_PICTURE",
    "BoxOutline",
    "MeasuredRun",
    "localization_picture",
    "localize",
    "with_outlines",
]
