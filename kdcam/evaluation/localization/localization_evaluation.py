"""localize: how well the maps of runs find the objects, written beside each run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdcam.api import Weights
from kdcam.cam.map_pictures import save_png
from kdcam.data.boxes import ObjectBoxes
from kdcam.errors import CheckpointError
from kdcam.evaluation.localization.localization_measurement import (
    BoxedImages,
    LocalizationCounts,
    LocatedMaps,
    measure_localization,
)
from kdcam.evaluation.localization.localization_schema import LocalizationSettings, localization_settings
from kdcam.evaluation.localization.prepared_runs import PreparedRun, RunPreparer
from kdcam.evaluation.localization.report import (
    EvaluatedBoxes,
    ExcludedCounts,
    LocalizationReport,
    RunLocalization,
)
from kdcam.files.atomic_writes import check_writable, make_folder
from kdcam.files.digests import weights_digest
from kdcam.files.json_files_part import write_json
from kdcam.files.paths import exists, expanded
from kdcam.runs.run_files import LOCALIZATION_FILE, RECIPE_FILE
from kdcam.runs.run_pictures import check_writable_file, figure_file, remove_figure
from kdcam.runtime.progress import Progress, Silent
from kdcam.training.assembly import EVALUATION_BATCH

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
        data: Keys of [data] that say where the files of the runs' data lie now; see `kdcam.api.load_run`.
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
    from kdcam.evaluation.localization.pictures import localization_picture

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


__all__ = ["LOCALIZATION_PICTURE", "localize"]
