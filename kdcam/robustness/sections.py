"""The sections of one run's robustness: attacks, checks, corruptions, calibration, foreign images, label noise."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import BaseModel

from kdcam.api import LoadedRun
from kdcam.data.batches import Batches
from kdcam.noise_file import NOISE_FILE, read_noise
from kdcam.progress import Progress
from kdcam.robustness.calibration import CalibrationReport, calibration_report
from kdcam.robustness.checks import MASKING, Check, failed, run_checks
from kdcam.robustness.corrupted_sets import ArraySet, FolderSet, open_corrupted_set
from kdcam.robustness.corruption_report import (
    CorruptionReport,
    corrupted_set_report,
    corruption_report,
    relative_to,
)
from kdcam.robustness.corruptions import check_names
from kdcam.robustness.evaluate import RobustnessReport, attack_report, right_images
from kdcam.robustness.foreign_data import foreign_batches, foreign_config, is_picture_folder
from kdcam.robustness.memorisation import LabelNoiseReport, Memorisation, label_noise_report, memorisation
from kdcam.robustness.multi_label import MultiLabelRobustnessReport, multi_label_attack_report
from kdcam.robustness.out_of_distribution import out_of_distribution
from kdcam.robustness.outputs import LabelledLogits, collect_logits
from kdcam.robustness.pieces import Source
from kdcam.robustness.probe import Budget
from kdcam.robustness.progress_file import Work
from kdcam.robustness.run_robustness import Corruptions, ForeignImages, RunRobustness
from kdcam.robustness.settings import EvaluationSettings
from kdcam.run_state import RESULT_FILE


class _Checks(BaseModel):
    rows: tuple[Check, ...]


@dataclass(frozen=True)
class Evaluation:
    """One run with what is done to it."""

    loaded: LoadedRun
    settings: EvaluationSettings
    batch_size: int
    work: Work
    progress: Progress
    source: Source | None = None
    base: Source | None = None
    _logits: dict[str, LabelledLogits] = field(default_factory=dict)

    @property
    def test(self) -> Batches:
        """The test part."""
        return self.loaded.batches(self.loaded.part("test"), batch_size=self.batch_size)

    def logits(self, part: str) -> LabelledLogits:
        """Return the logits of a whole part, computed once."""
        if part not in self._logits:
            found = self.loaded.batches(self.loaded.part(part), batch_size=self.batch_size)
            self._logits[part] = collect_logits(
                self.loaded.classifier, found, task=f"{part} part", progress=self.progress
            )
        return self._logits[part]


def run_sections(one: Evaluation, *, key: str, weights: str) -> RunRobustness:
    """Return all sections that the settings ask for; what `Evaluation.work` holds already is not done again.

    Raises ``KdcamError`` subclasses as the sections do.
    """
    settings, work = one.settings, one.work
    attacks = attack_section(one) if settings.attack else None
    checks: tuple[Check, ...] = ()
    if attacks is not None and settings.checks:
        report = attacks
        checks = work.section("checks", _Checks, lambda: _Checks(rows=check_section(one, report))).rows
    corruptions = corrupted_set = calibrated = foreign = None
    if settings.corruptions:
        corruptions = work.section("corruptions", Corruptions, lambda: corruption_section(one))
    if settings.corrupted_set is not None:
        place = settings.corrupted_set
        corrupted_set = work.section("corrupted_set", Corruptions, lambda: published_section(one, place))
    if settings.calibration:
        calibrated = work.section("calibration", CalibrationReport, lambda: calibration_section(one))
    if settings.ood is not None:
        named = settings.ood
        foreign = work.section("out_of_distribution", ForeignImages, lambda: foreign_section(one, named))
    return RunRobustness(
        run=one.loaded.path,
        key=key,
        weights=weights,
        settings=settings.model_dump(mode="json"),
        attacks=attacks,
        checks=checks,
        corruptions=corruptions,
        corrupted_set=corrupted_set,
        calibration=calibrated,
        out_of_distribution=foreign,
        label_noise=label_noise_section(one),
    )


def check_inputs(one: Evaluation) -> None:
    """Raise what would stop a later section, so that it is known before hours of attacks."""
    classifier, settings = one.loaded.classifier, one.settings
    one.loaded.part("test")
    if settings.corruptions and "all" not in settings.corruptions:
        check_names(settings.corruptions, channels=classifier.in_channels)
    if settings.corrupted_set is not None:
        _open_set(one, settings.corrupted_set)
    if settings.ood is not None and not is_picture_folder(settings.ood):
        foreign_config(settings.ood, classifier.image_size)


def attack_section(one: Evaluation) -> RobustnessReport | MultiLabelRobustnessReport:
    """Return the accuracies under every attack of every budget."""
    several = one.loaded.recipe.task == "multi-label"
    report_of: Callable[..., RobustnessReport | MultiLabelRobustnessReport]
    report_of = multi_label_attack_report if several else attack_report
    return report_of(
        one.loaded.classifier,
        one.test,
        [config for budget in one.settings.budgets for config in budget.configs()],
        n_examples=one.settings.n_examples,
        source=one.source,
        work=one.work,
        progress=one.progress,
    )


def check_section(
    one: Evaluation, report: RobustnessReport | MultiLabelRobustnessReport
) -> tuple[Check, ...]:
    """Return whether the attacks can be believed, at the largest budget; warns of what failed."""
    largest = one.settings.budgets[-1]
    right, share, gain = (
        torch.ones(report.images, dtype=torch.bool),
        report.zero_gradients / report.images,
        None,
    )
    if isinstance(report, RobustnessReport):
        right = right_images(
            one.loaded.classifier, one.test, report.images, work=one.work, progress=one.progress
        )
        share = report.zero_gradients / max(int(right.sum()), 1)
        gain = report.transfer_gain
    found = run_checks(
        one.loaded.classifier,
        one.test,
        right,
        Budget(largest.norm, largest.eps, largest.seed),
        zero_gradients=share,
        transfer_gain=gain,
        progress=one.progress,
    )
    for check in failed(found):
        one.progress.warning(f"{one.loaded.path}: {failure_text(check)}")
    return found


def failure_text(check: Check) -> str:
    """Return in words what a failed check found."""
    return f"check {check.name} failed ({check.text}: {check.value:.3g}, limit {check.limit:.3g}): {MASKING}"


def corruption_section(one: Evaluation) -> Corruptions:
    """Return the accuracies under kdcam's corruptions."""
    names = None if "all" in one.settings.corruptions else one.settings.corruptions

    def of(classifier: torch.nn.Module) -> CorruptionReport:
        return corruption_report(
            classifier,
            one.test,
            names=names,
            severities=one.settings.severities,
            n_examples=one.settings.n_examples,
            seed=one.settings.seed,
            progress=one.progress,
        )

    return _with_base(one, of)


def published_section(one: Evaluation, folder: Path) -> Corruptions:
    """Return the accuracies on a published corrupted test set."""
    found = _open_set(one, folder)

    def of(judged: torch.nn.Module) -> CorruptionReport:
        return corrupted_set_report(
            judged,
            found,
            severities=one.settings.severities,
            n_examples=one.settings.n_examples,
            batch_size=one.batch_size,
            device=one.loaded.classifier.mean.device,
            clean_acc=_accuracy(judged, one),
            progress=one.progress,
        )

    return _with_base(one, of)


def _open_set(one: Evaluation, folder: Path) -> ArraySet | FolderSet:
    classifier = one.loaded.classifier
    return open_corrupted_set(
        folder, classifier.class_names, image_size=classifier.image_size, channels=classifier.in_channels
    )


def _with_base(one: Evaluation, of: Callable[[torch.nn.Module], CorruptionReport]) -> Corruptions:
    report = of(one.loaded.classifier)
    if one.base is None:
        return Corruptions(report=report)
    relative = relative_to(report, of(one.base.classifier))
    return Corruptions(report=report, base=one.base.name, relative=relative)


def _accuracy(classifier: torch.nn.Module, one: Evaluation) -> float:
    logits, targets = collect_logits(classifier, one.test, task="clean", progress=one.progress)
    return float((logits.argmax(1) == targets).double().mean())


def calibration_section(one: Evaluation) -> CalibrationReport:
    """Return the calibration on the whole test part; the temperature is fitted on the validation part alone."""
    logits, targets = one.logits("test")
    held = None if one.loaded.parts.validation is None else one.logits("validation")
    return calibration_report(logits, targets, validation=held)


def foreign_section(one: Evaluation, named: str) -> ForeignImages:
    """Return how well the whole test part is told from foreign images."""
    others = foreign_batches(named, one.loaded, batch_size=one.batch_size, progress=one.progress)
    found = collect_logits(one.loaded.classifier, others, task="foreign images", progress=one.progress)
    return ForeignImages(data=named, report=out_of_distribution(one.logits("test").logits, found.logits))


def label_noise_section(one: Evaluation) -> LabelNoiseReport | None:
    """Return what label noise did to a finished run; None where it was trained without any, or is not finished."""
    folder, loaded = one.loaded.path, one.loaded
    if not (folder / NOISE_FILE).exists():
        return None
    if not (folder / RESULT_FILE).exists():
        one.progress.message(f"{folder}: is not finished, so its label noise is left out")
        return None
    clean, wrong = read_noise(folder)
    found = one.work.section(
        "memorisation",
        Memorisation,
        lambda: memorisation(
            loaded.classifier, loaded.batches(loaded.parts.train), clean, wrong, progress=one.progress
        ),
    )
    return label_noise_report(folder, found)


__all__ = [
    "Evaluation",
    "attack_section",
    "calibration_section",
    "check_inputs",
    "check_section",
    "corruption_section",
    "failure_text",
    "foreign_section",
    "label_noise_section",
    "published_section",
    "run_sections",
]
