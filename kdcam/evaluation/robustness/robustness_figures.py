"""Which pictures are drawn of evaluated runs, of what curves, and where they lie."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from kdcam.attacks.attack_settings import PgdConfig
from kdcam.cam.map_pictures import save_png
from kdcam.data.batches.batch import Batch
from kdcam.errors import KdcamError
from kdcam.evaluation.robustness.attack_report import RobustnessReport
from kdcam.evaluation.robustness.corruption_report import CorruptionReport
from kdcam.evaluation.robustness.evaluated_images import chosen_images, is_right
from kdcam.evaluation.robustness.memorisation import LabelNoiseReport
from kdcam.evaluation.robustness.robustness_file import CorruptionSection, RunRobustness
from kdcam.evaluation.robustness.robustness_plots import (
    RobustnessCurve,
    adversarial_examples,
    draw_reliability,
    draw_robustness_curves,
)
from kdcam.files.atomic_writes import make_folder, write_atomically
from kdcam.files.paths import exists
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.open_run import LoadedRun, recipe_of
from kdcam.runs.run_files import FIGURES_FOLDER, ROBUSTNESS_FILE
from kdcam.runtime.progress import Progress, Silent
from kdcam.scores.calibration import CalibrationReport
from kdcam.settings.messages import listed

_ADVERSARIAL, _RELIABILITY = "adversarial.png", "reliability.png"
_EPS, _CORRUPTIONS, _CORRUPTED_SET = "robustness-eps.png", "corruptions.png", "corrupted-set.png"
_VALIDATION, _RATES = "label-noise.png", "noise-rates.png"
_SHOWN, _TRIED = 6, 24  # adversarial examples
_CORRUPTION_AXES = ("severity (0: clean)", "accuracy, mean over corruptions")
_STEPS = 20  # of the attack that draws them: kdcam's choice, enough to see where the evidence goes

_OF_A_POINT = {"rate", "seed"}  # of the noise: what the runs of one curve may differ in
_WITHOUT_EFFECT = {"description", "published", "seed"}  # of the recipe, or what a mean is taken over


class _Drawing(NamedTuple):
    """A picture of curves: its file and the words at its axes."""

    file: str
    curves: list[RobustnessCurve]
    horizontal: str
    vertical: str


def draw_run(
    loaded: LoadedRun,
    found: RunRobustness,
    *,
    batch_size: int = 100,
    progress: Progress | None = None,
) -> list[Path]:
    """Draw the pictures of all that is known of a run into its figures/ and return their files.

    adversarial.png (with one label an image), robustness-eps.png (several budgets), corruptions.png,
    corrupted-set.png, reliability.png and label-noise.png, each where there is something to show; others of these files
    are of numbers that are gone and are removed. A picture that fails is a warning. adversarial.png is drawn with a few
    steps of pgd at the largest budget, whatever attacks were evaluated, and stays as it is where it is younger than
    robustness.json.
    """
    folder, watcher = loaded.path / FIGURES_FOLDER, progress or Silent()
    makers: dict[str, Callable[[], None]] = {
        drawing.file: partial(_draw_curves, drawing, folder) for drawing in _drawings([found])
    }
    if isinstance(found.attacks, RobustnessReport):
        makers[_ADVERSARIAL] = partial(_draw_adversarial, loaded, found.attacks, batch_size)
    if found.calibration is not None:
        makers[_RELIABILITY] = partial(_draw_reliability, found.calibration, loaded.path)
    written = [folder / name for name, make in makers.items() if _made(folder / name, make, watcher)]
    _remove_others(folder, written, watcher)
    _tell(written, folder, watcher)
    return written


def draw_together(
    found: Sequence[RunRobustness], folder: Path, *, progress: Progress | None = None
) -> list[Path]:
    """Draw the pictures that show several runs and return their files; one that fails is a warning.

    robustness-eps.png, corruptions.png, corrupted-set.png, label-noise.png (validation by epoch) and
    noise-rates.png (against the rate, where runs have several), each where there is something to show.
    """
    watcher = progress or Silent()
    written = [
        folder / drawing.file
        for drawing in _drawings(found)
        if _made(folder / drawing.file, partial(_draw_curves, drawing, folder), watcher)
    ]
    _tell(written, folder, watcher)
    return written


def _made(file: Path, make: Callable[[], None], progress: Progress) -> bool:
    """Return whether a picture was drawn: hours of attacks are not given up for one that cannot be."""
    try:
        make()
    except (KdcamError, OSError, RuntimeError) as error:  # RuntimeError: a GPU's memory is full
        progress.warning(f"{file}: not drawn: {error}")
        return False
    return True


def _tell(written: Sequence[Path], folder: Path, progress: Progress) -> None:
    names = listed(file.name for file in written)
    progress.message(f"{folder}: {names}" if written else f"{folder}: there was nothing to draw")


def _remove_others(folder: Path, written: Sequence[Path], progress: Progress) -> None:
    for name in (_ADVERSARIAL, _RELIABILITY, _EPS, _CORRUPTIONS, _CORRUPTED_SET, _VALIDATION, _RATES):
        if folder / name in written:
            continue
        try:
            (folder / name).unlink(missing_ok=True)
        except OSError as error:
            progress.warning(f"{folder / name}: is of numbers that are gone and cannot be removed: {error}")


def _draw_curves(drawing: _Drawing, folder: Path) -> None:
    make_folder(folder)
    picture = draw_robustness_curves(drawing.curves, horizontal=drawing.horizontal, vertical=drawing.vertical)
    write_atomically(folder / drawing.file, picture)


def _draw_reliability(report: CalibrationReport, path: Path) -> None:
    make_folder(path / FIGURES_FOLDER)
    write_atomically(path / FIGURES_FOLDER / _RELIABILITY, draw_reliability(report, name=str(path)))


def _draw_adversarial(loaded: LoadedRun, report: RobustnessReport, batch_size: int) -> None:
    file, numbers = loaded.path / FIGURES_FOLDER / _ADVERSARIAL, loaded.path / ROBUSTNESS_FILE
    if exists(file) and exists(numbers) and file.stat().st_mtime_ns >= numbers.stat().st_mtime_ns:
        return
    budget = {"norm": report.rows[0].norm, "eps": report.curve[-1].eps}
    attack = PgdConfig.model_validate({**budget, "steps": _STEPS, "stop_when_fooled": False})
    batch = _first_right(loaded, batch_size)
    save_png(adversarial_examples(loaded.classifier, batch, attack, most=_SHOWN), file)


def _first_right(loaded: LoadedRun, batch_size: int) -> Batch:
    """Return the first few test images that the run is right on; any where it is right on none of the first batch."""
    batch = next(iter(loaded.batches(loaded.part("test"), batch_size=batch_size).epoch(0)))
    right = is_right(loaded.classifier, batch.images, batch.targets).nonzero()[:, 0][:_TRIED]
    rows = right if len(right) else torch.arange(min(_TRIED, len(batch.targets)), device=batch.targets.device)
    return chosen_images(batch, rows)


def _drawings(found: Sequence[RunRobustness]) -> Iterator[_Drawing]:
    """Yield the pictures of curves that have any."""
    drawings = (
        _Drawing(_EPS, _eps_curves(found), "eps, [0, 1] pixel units", "accuracy under all attacks"),
        _Drawing(_CORRUPTIONS, _corruption_curves(found, "corruptions"), *_CORRUPTION_AXES),
        _Drawing(_CORRUPTED_SET, _corruption_curves(found, "corrupted_set"), *_CORRUPTION_AXES),
        _Drawing(_VALIDATION, _validation_curves(found), "epoch", "validation accuracy"),
        _Drawing(_RATES, rate_curves(found), "wrong training labels, nominal (%)", "accuracy"),
    )
    yield from (drawing for drawing in drawings if drawing.curves)


def _eps_curves(found: Sequence[RunRobustness]) -> list[RobustnessCurve]:
    curves = []
    for run in found:
        if isinstance(run.attacks, RobustnessReport):
            points = [(point.eps, point.worst_case_acc) for point in run.attacks.curve]
            if run.settings["attacks"]["from_zero"]:
                points = [(0.0, run.attacks.clean_acc), *points]
            if len(points) > 1:
                curves.append(RobustnessCurve(str(run.run), points))
    return curves


def _corruption_curves(found: Sequence[RunRobustness], section: str) -> list[RobustnessCurve]:
    sections: list[tuple[str, CorruptionSection | None]] = [
        (str(run.run), getattr(run, section)) for run in found
    ]
    return [RobustnessCurve(name, _by_severity(one.report)) for name, one in sections if one is not None]


def _by_severity(report: CorruptionReport) -> list[tuple[float, float]]:
    points = [] if report.clean_acc is None else [(0.0, report.clean_acc)]
    for number, severity in enumerate(report.severities):
        shares = [row.accuracies[number] for row in report.rows]
        points.append((float(severity), sum(shares) / len(shares)))
    return sorted(points)


def _validation_curves(found: Sequence[RunRobustness]) -> list[RobustnessCurve]:
    curves = []
    for run in found:
        if run.label_noise is not None and run.label_noise.validation:
            points = [(float(one.epoch), one.acc1) for one in run.label_noise.validation]
            curves.append(RobustnessCurve(f"{run.run} ({run.label_noise.realised_rate:.0%} wrong)", points))
    return curves


def rate_curves(found: Sequence[RunRobustness]) -> list[RobustnessCurve]:
    """Return scores against the nominal share of wrong labels in percent, the mean over runs of one share.

    Runs whose recipes are the same but for seed and the noise's rate and seed make a curve for each score, where there
    are several shares; those trained without noise and otherwise alike join at 0.
    """
    runs = [_noisy(run, run.label_noise) for run in found if run.label_noise is not None]
    curves = []
    for method, noise in dict.fromkeys((one.method, one.noise) for one in runs if one.noise is not None):
        alike = [one for one in runs if one.method == method and one.noise in (noise, None)]
        first = next(one for one in alike if one.noise is not None)
        losses = " + ".join(loss.name for loss in first.recipe.loss)
        for score, points in _points(alike).items():
            if len(points) > 1:
                name = f"{losses}, {first.report.kind} noise (as {first.run.run.name}): {score}"
                curves.append(RobustnessCurve(name, points))
    return curves


class _NoisyRun(NamedTuple):
    """A run with what tells its curve from others."""

    run: RunRobustness
    report: LabelNoiseReport
    recipe: TrainRecipe
    method: str  # all of the recipe but the noise

    @property
    def noise(self) -> str | None:
        """The noise but for its rate and seed; None: trained without."""
        noise = self.recipe.data.noise
        return None if noise is None else noise.model_dump_json(exclude=_OF_A_POINT)

    @property
    def rate(self) -> float:
        """The nominal share of wrong labels, in percent; the realised one where labels were not drawn."""
        nominal = self.report.nominal_rate
        return round(100 * (self.report.realised_rate if nominal is None else nominal), 4)


def _noisy(run: RunRobustness, report: LabelNoiseReport) -> _NoisyRun:
    recipe = recipe_of(run.run)
    values = recipe.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
    values["data"].pop("noise")
    return _NoisyRun(run, report, recipe, json.dumps(values, sort_keys=True))


def _points(runs: Sequence[_NoisyRun]) -> dict[str, list[tuple[float, float]]]:
    """Return by score the points (percent of wrong labels, mean score), from left to right."""
    values: dict[str, dict[float, list[float]]] = {}
    for one in runs:
        for score, value in _scores(one.report).items():
            values.setdefault(score, {}).setdefault(one.rate, []).append(value)
    return {
        score: [(rate, sum(some) / len(some)) for rate, some in sorted(by_rate.items())]
        for score, by_rate in values.items()
    }


def _scores(report: LabelNoiseReport) -> dict[str, float]:
    kept = report.memorisation
    scores = {
        "clean test, selected epoch": report.selected_test_acc,
        "clean test, last epoch": report.last_test_acc,
        "wrong labels memorised": None if kept is None else kept.memorised,
    }
    return {name: score for name, score in scores.items() if score is not None}


__all__ = ["draw_run", "draw_together", "rate_curves"]
