"""localize: how well the maps of runs find the objects, written beside each run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdcam.api import Weights
from kdcam.cam.picture import save_png
from kdcam.data.boxes import ObjectBoxes
from kdcam.json_files import write_json
from kdcam.localization.measuring import Measured, measure
from kdcam.localization.opening import Opened, Opener
from kdcam.localization.report import LeftOut, LocalizationReport, RunLocalization
from kdcam.localization.settings import LocalizationSettings, localization_settings
from kdcam.progress import Progress, Silent
from kdcam.run_state import LOCALIZATION_FILE, RECIPE_FILE
from kdcam.teacher_cache.fingerprints import weights_digest
from kdcam.training import EVALUATION_BATCH

PICTURE_FILE = "localization.png"


def localize(
    runs: str | Path | Sequence[str | Path],
    *,
    settings: Mapping[str, Any] | LocalizationSettings | None = None,
    figures: str | Path | None = None,
    weights: Weights = "selected",
    batch_size: int = EVALUATION_BATCH,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[RunLocalization]:
    """Return how well the maps of runs find the objects; written to localization.json in each run folder.

    MaxBoxAccV2 and MaxBoxAcc (V1), the pointing game and the energy inside the box; see
    `kdcam.localization.box_accuracy.level_overlaps` and `kdcam.cam.localization`.

    Args:
        runs: A run folder, or several. With ``root`` also a timm folder or a .safetensors file beside its config.json;
            only run folders get a localization.json.
        settings: See `kdcam.localization.settings.LocalizationSettings`; none: the labels' CAMs of the test part, with
            the boxes that the data knows.
        figures: A folder for localization.png, a few images of each run with boxes; none: no picture.
        weights: Which epoch's weights of each run.
        batch_size: Images at a time.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        progress: Who watches.

    Raises ``RecipeError`` for a setting, ``DataError`` for boxes, pictures or a part, ``ModelError`` for a network
    without a map, ``CheckpointError`` for a run or a file that cannot be written.
    """
    watcher = progress or Silent()
    asked = settings if isinstance(settings, LocalizationSettings) else localization_settings(settings or {})
    opener = Opener(asked, weights=weights, batch_size=batch_size, device=device, progress=watcher)
    places = [runs] if isinstance(runs, str | Path) else runs
    # All are opened first: a wrong last one is refused before the first is measured.
    opened = [opener.open(path) for path in places]
    found = []
    for one in opened:
        found.append(_localized(one, asked, weights, watcher))
        if (one.path / RECIPE_FILE).exists():
            write_json(one.path / LOCALIZATION_FILE, found[-1].to_json())
    if figures is not None:
        from kdcam.localization.pictures import localization_picture

        file = Path(figures) / PICTURE_FILE
        reports = [run.report for run in found]
        save_png(localization_picture(list(zip(opened, reports, strict=True))), file)
        watcher.message(f"{file}: objects' boxes in blue, those found in green")
    return found


def _localized(
    opened: Opened, settings: LocalizationSettings, weights: Weights, progress: Progress
) -> RunLocalization:
    name = opened.path.absolute().name
    levels = None
    if opened.validation is not None:
        task = f"{name}: thresholds on validation"
        before = measure(opened.classifier, opened.validation, opened.look, task=task, progress=progress)
        levels = before.tally.best_levels()
    measured = measure(opened.classifier, opened.evaluated, opened.look, task=name, progress=progress)
    return RunLocalization(
        opened.path,
        weights_digest(opened.classifier.network),
        weights,
        settings.model_dump(mode="json"),
        _report(measured, opened, settings, levels),
    )


def _report(
    measured: Measured, opened: Opened, settings: LocalizationSettings, levels: Sequence[int] | None
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
    )


def _left_out(boxes: ObjectBoxes) -> LeftOut:
    return LeftOut(boxes.without_box, boxes.cut_away, boxes.other_class, boxes.elsewhere)


__all__ = ["PICTURE_FILE", "localize"]
