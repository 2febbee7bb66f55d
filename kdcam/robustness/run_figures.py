"""Which pictures are drawn of evaluated runs, and where they lie."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from kdcam.api import LoadedRun, recipe_of
from kdcam.atomic import make_folder, write_atomically
from kdcam.cam.picture import save_png
from kdcam.data.batches import Batch
from kdcam.robustness.corruption_report import CorruptionReport
from kdcam.robustness.evaluate import RobustnessReport
from kdcam.robustness.figures import Curve, adversarial_examples, draw_curves, draw_reliability
from kdcam.robustness.memorisation import LabelNoiseReport
from kdcam.robustness.pieces import stages_of, to_the_end
from kdcam.robustness.run_robustness import Corruptions, RunRobustness
from kdcam.robustness.settings import EvaluationSettings
from kdcam.robustness.subset import logits_of

FIGURES = "figures"
_SHOWN, _TRIED = 6, 24  # adversarial examples


class _Drawing(NamedTuple):
    """A picture of curves: its file and the words at its axes."""

    file: str
    curves: list[Curve]
    horizontal: str
    vertical: str


def draw_run(loaded: LoadedRun, found: RunRobustness, settings: EvaluationSettings) -> list[Path]:
    """Draw one run's pictures into its figures/ and return their files.

    adversarial.png (with one label an image), robustness-eps.png (several budgets), corruptions.png,
    corrupted-set.png, reliability.png and label-noise.png, each where there is something to show.

    Raises ``CheckpointError`` where a file cannot be written.
    """
    folder = loaded.path / FIGURES
    written = _write([found], folder)
    if isinstance(found.attacks, RobustnessReport):
        attack = settings.budgets[-1].configs()[-1]
        attack = to_the_end((*stages_of(attack, loaded.classifier.num_classes), attack)[0])
        drawn = adversarial_examples(loaded.classifier, _first_right(loaded), attack, most=_SHOWN)
        save_png(drawn, folder / "adversarial.png")
        written.append(folder / "adversarial.png")
    if found.calibration is not None:
        make_folder(folder)
        diagram = draw_reliability(found.calibration, name=str(loaded.path))
        write_atomically(folder / "reliability.png", diagram)
        written.append(folder / "reliability.png")
    return written


def draw_together(found: Sequence[RunRobustness], folder: Path) -> list[Path]:
    """Draw the pictures that show several runs and return their files.

    robustness-eps.png, corruptions.png, corrupted-set.png, label-noise.png (validation by epoch) and
    noise-rates.png (against the rate, where runs have several), each where there is something to show.

    Raises ``CheckpointError`` where a file cannot be written.
    """
    return _write(found, folder)


def _write(found: Sequence[RunRobustness], folder: Path) -> list[Path]:
    written = []
    for drawing in _drawings(found):
        if drawing.curves:
            make_folder(folder)
            picture = draw_curves(drawing.curves, horizontal=drawing.horizontal, vertical=drawing.vertical)
            write_atomically(folder / drawing.file, picture)
            written.append(folder / drawing.file)
    return written


def _drawings(found: Sequence[RunRobustness]) -> Iterator[_Drawing]:
    yield _Drawing(
        "robustness-eps.png", _eps_curves(found), "eps, [0, 1] pixel units", "accuracy under all attacks"
    )
    for file, key in (("corruptions.png", "corruptions"), ("corrupted-set.png", "corrupted_set")):
        sections: list[tuple[str, Corruptions]] = [
            (str(run.run), getattr(run, key)) for run in found if getattr(run, key) is not None
        ]
        curves = [Curve(name, _by_severity(section.report)) for name, section in sections]
        yield _Drawing(file, curves, "severity (0: clean)", "accuracy, mean over corruptions")
    yield _Drawing("label-noise.png", _validation_curves(found), "epoch", "validation accuracy")
    yield _Drawing("noise-rates.png", _rate_curves(found), "wrong training labels (%)", "accuracy")


def _eps_curves(found: Sequence[RunRobustness]) -> list[Curve]:
    curves = []
    for run in found:
        if isinstance(run.attacks, RobustnessReport) and len(run.attacks.curve) > 1:
            points = [(point.eps, point.worst_case_acc) for point in run.attacks.curve]
            if run.settings["from_zero"]:
                points = [(0.0, run.attacks.clean_acc), *points]
            curves.append(Curve(str(run.run), points))
    return curves


def _by_severity(report: CorruptionReport) -> list[tuple[float, float]]:
    points = [] if report.clean_acc is None else [(0.0, report.clean_acc)]
    for place, severity in enumerate(report.severities):
        shares = [row.accuracies[place] for row in report.rows]
        points.append((float(severity), sum(shares) / len(shares)))
    return sorted(points)


def _validation_curves(found: Sequence[RunRobustness]) -> list[Curve]:
    curves = []
    for run in found:
        if run.label_noise is not None and run.label_noise.validation:
            points = [(float(one.epoch), one.acc1) for one in run.label_noise.validation]
            curves.append(Curve(f"{run.run} ({run.label_noise.realised_rate:.0%} wrong)", points))
    return curves


def _rate_curves(found: Sequence[RunRobustness]) -> list[Curve]:
    """Return scores against the realised rate, for each method that has several; the mean over runs of one rate."""
    by_rate: dict[str, dict[float, list[float]]] = {}
    for run in found:
        if run.label_noise is not None:
            rate = round(100 * run.label_noise.realised_rate, 1)
            for name, value in _noise_scores(run.label_noise).items():
                by_rate.setdefault(f"{_method(run.run)}: {name}", {}).setdefault(rate, []).append(value)
    return [
        Curve(name, [(rate, sum(values) / len(values)) for rate, values in sorted(points.items())])
        for name, points in by_rate.items()
        if len(points) > 1
    ]


def _noise_scores(report: LabelNoiseReport) -> dict[str, float]:
    kept = report.memorisation
    scores = {
        "clean test, selected epoch": report.selected_test_acc,
        "clean test, last epoch": report.last_test_acc,
        "wrong labels memorised": None if kept is None else kept.memorised,
    }
    return {name: score for name, score in scores.items() if score is not None}


def _method(run: Path) -> str:
    return " + ".join(loss.name for loss in recipe_of(run).loss)


def _first_right(loaded: LoadedRun) -> Batch:
    """Return the first few test images that the run is right on; any where it is right on none of the first batch."""
    batch = next(iter(loaded.batches(loaded.part("test")).epoch(0)))
    right = (logits_of(loaded.classifier, batch.images).argmax(1) == batch.targets).nonzero()[:, 0][:_TRIED]
    rows = right if len(right) else torch.arange(min(_TRIED, len(batch.targets)), device=batch.targets.device)
    return Batch(batch.images[rows], batch.targets[rows], batch.indices[rows.to(batch.indices.device)])


__all__ = ["FIGURES", "draw_run", "draw_together"]
