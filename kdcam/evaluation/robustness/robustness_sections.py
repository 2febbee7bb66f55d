"""The sections of one run's robustness: attacks, checks, corruptions, calibration, foreign images, label noise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel
from torch import Tensor

from kdcam.attacks.budget import Budget
from kdcam.corruptions.image_corruption import check_corruption_names
from kdcam.data.batches.batch import Batches
from kdcam.data.splits.held_out import drawn_positions
from kdcam.errors import CheckpointError
from kdcam.evaluation.robustness.attack_report import RobustnessReport, attack_report, right_images
from kdcam.evaluation.robustness.corrupted_sets import CorruptedSet, open_corrupted_set
from kdcam.evaluation.robustness.corruption_report import (
    CorruptionReport,
    corrupted_set_report,
    corruption_report,
    relative_errors,
)
from kdcam.evaluation.robustness.evaluated_images import (
    LabelledLogits,
    collect_logits,
    drawn_batches,
    drawn_text,
)
from kdcam.evaluation.robustness.gradient_masking_check import MaskingCheck, failed_checks, failure_text
from kdcam.evaluation.robustness.gradient_masking_report import AttackFindings, masking_checks
from kdcam.evaluation.robustness.memorisation import LabelNoiseReport, label_noise_report, memorisation
from kdcam.evaluation.robustness.multi_label_attack_report import (
    MultiLabelRobustnessReport,
    multi_label_attack_report,
)
from kdcam.evaluation.robustness.out_of_distribution import (
    foreign_batches,
    foreign_config,
    is_picture_folder,
    out_of_distribution_report,
)
from kdcam.evaluation.robustness.partial_results import PartialResults, stop_with_results_kept
from kdcam.evaluation.robustness.reference_runs import ReferenceNetworks
from kdcam.evaluation.robustness.robustness_file import CorruptionSection, ForeignDataSection, RobustnessFile
from kdcam.evaluation.robustness.robustness_settings import BudgetSettings, RobustnessEvaluationSettings
from kdcam.evaluation.robustness.section_keys import asked_sections
from kdcam.files.paths import exists
from kdcam.runs.open_run import LoadedRun
from kdcam.runs.picture_record import read_noisy_labels
from kdcam.runs.run_files import NOISE_FILE, RESULT_FILE, ROBUSTNESS_FILE
from kdcam.runtime.progress import Progress
from kdcam.scores.calibration import CalibrationReport, calibration_report
from kdcam.settings.messages import listed

AnyReport = TypeVar("AnyReport", bound=BaseModel)


_STANDING = 0.05  # kdcam's choice: five of the hundred images that the checks look at


@dataclass(frozen=True)
class SectionContext:
    """One run with what is done to it."""

    loaded: LoadedRun
    settings: RobustnessEvaluationSettings
    batch_size: int
    progress: Progress
    references: ReferenceNetworks
    fresh: bool = False  # nothing that was found before is taken over
    refused: CheckpointError | None = None  # why nothing can be written into the run's folder
    _logits: dict[str, LabelledLogits] = field(default_factory=dict)

    @cached_property
    def drawn(self) -> Tensor | None:
        """Which test images are attacked and corrupted; None: the first ones."""
        return drawn_positions(self.loaded.part("test").targets, self.settings.n_examples)

    @cached_property
    def test(self) -> Batches:
        """The test part, the images that are attacked and corrupted first."""
        part = self.loaded.part("test")
        if self.drawn is None:
            return self.loaded.batches(part, batch_size=self.batch_size)
        found = self.loaded.batches(part.subset(self.drawn), batch_size=self.batch_size)
        return drawn_batches(found, self.drawn)

    def with_subset(self, report: AnyReport) -> AnyReport:
        """Return a report on `test` that says which images these are."""
        if self.drawn is None:
            return report
        classes = len(self.loaded.part("test").targets.unique())
        return report.model_copy(update={"subset": drawn_text(len(self.drawn), classes)})

    def logits(self, part: str) -> LabelledLogits:
        """Return the logits of a whole part, computed once."""
        if part not in self._logits:
            found = self.loaded.batches(self.loaded.part(part), batch_size=self.batch_size)
            self._logits[part] = collect_logits(
                self.loaded.classifier, found, task=f"{part} part", progress=self.progress
            )
        return self._logits[part]


def check_inputs(loaded: LoadedRun, settings: RobustnessEvaluationSettings) -> None:
    """Raise what would stop a later section, so that it is known before hours of attacks."""
    classifier = loaded.classifier
    loaded.part("test")
    if settings.corruptions and "all" not in settings.corruptions:
        check_corruption_names(settings.corruptions, channels=classifier.in_channels)
    if settings.corrupted_set is not None:
        _open_set(loaded, settings.corrupted_set)
    if settings.ood is not None and not is_picture_folder(settings.ood):
        foreign_config(settings.ood, classifier.image_size)


def run_sections(context: SectionContext, file: RobustnessFile, keys: Mapping[str, str]) -> None:
    """Put all sections that are asked for into the file of results, each as soon as it is whole.

    What the file holds under the same key stays, and work that is under way goes on.

    Args:
        context: the run.
        file: its file.
        keys: of each section, as `section_keys` gives them.

    Raises ``KdcamError`` subclasses as the sections do, ``Interrupted`` when asked to stop.
    """
    folder, asked = context.loaded.path, asked_sections(context.loaded.path, context.settings)
    partials = {section: PartialResults(folder, key=keys[section], fresh=context.fresh) for section in asked}
    # Work under way is newer than a result of the same key: someone started over.
    taken = [
        section
        for section, partial in partials.items()
        if not context.fresh and not partial.resumed and file.has(section, keys[section])
    ]
    if context.refused is not None and len(taken) < len(partials):
        raise context.refused
    _tell_of_resumed(context, partials, taken)
    if context.settings.attack and not file.has("checks", keys["checks"]):
        file.drop("checks")  # they were of other attacks
    for section, partial in partials.items():
        if section in taken:
            file.keep(section)
        else:
            stop_with_results_kept(context.progress)
            # The clean pass that the attacks began with is of use to the checks.
            before = partials["attacks"] if section == "checks" and "attacks" not in taken else partial
            file.put(section, keys[section], _section(context, section, partial, file, before))
            partial.finish()


def _tell_of_resumed(
    context: SectionContext, partials: Mapping[str, PartialResults], taken: Sequence[str]
) -> None:
    folder = context.loaded.path
    for partial in partials.values():
        if partial.note is not None:
            context.progress.warning(f"{folder / partial.name}: {partial.note}; that section starts over")
    if len(taken) == len(partials):
        context.progress.message(f"{folder}: evaluated just so before, {ROBUSTNESS_FILE} is taken as it is")
        return
    resumed = [partial.name for partial in partials.values() if partial.resumed]
    context.progress.message(
        f"{folder}: {context.settings.summary}"
        + (f"; goes on from {listed(resumed)}" if resumed else "")
        + (f"; {listed(taken)} found just so before, taken from {ROBUSTNESS_FILE}" if taken else "")
    )


def _section(
    context: SectionContext,
    section: str,
    partial: PartialResults,
    file: RobustnessFile,
    before: PartialResults,
) -> Any:
    """Return a section, found now; None: the run has none."""
    match section:
        case "attacks":
            return attack_section(context, partial)
        case "checks":
            report = file.whole.attacks
            assert report is not None  # put before
            return check_section(context, report, partial, before)
        case "corruptions":
            return corruption_section(context, partial)
        case "corrupted_set":
            return corrupted_set_section(context, partial)
        case "calibration":
            return calibration_section(context)
        case "out_of_distribution":
            return out_of_distribution_section(context)
        case _:
            return label_noise_section(context)


def attack_section(
    context: SectionContext, partial: PartialResults
) -> RobustnessReport | MultiLabelRobustnessReport:
    """Return the accuracies under every attack of every budget."""
    several = context.loaded.recipe.task == "multi-label"
    report_of: Callable[..., RobustnessReport | MultiLabelRobustnessReport]
    report_of = multi_label_attack_report if several else attack_report
    report = report_of(
        context.loaded.classifier,
        context.test,
        context.settings.attack_configs,
        n_examples=context.settings.n_examples,
        source=context.references.source,
        partial=partial,
        progress=context.progress,
    )
    return context.with_subset(report)


def check_section(
    context: SectionContext,
    report: RobustnessReport | MultiLabelRobustnessReport,
    partial: PartialResults,
    before: PartialResults,
) -> tuple[MaskingCheck, ...]:
    """Return whether the attacks can be believed, at the largest budget that leaves something; warns of what failed.

    Args:
        context: the run.
        report: of its attacks.
        partial: holds the checks that are done.
        before: holds which images are right at the start, where the attacks found that just now.
    """
    budget = _checked_budget(context.settings, report)
    if isinstance(report, RobustnessReport):
        right = right_images(
            context.loaded.classifier, context.test, report.images, partial=before, progress=context.progress
        )
        findings = AttackFindings(
            report.images,
            report.zero_gradients / max(int(right.sum()), 1),
            report.black_box_gain,
            report.transfer_gain,
        )
    else:
        right = torch.ones(report.images, dtype=torch.bool)
        findings = AttackFindings(report.images, report.zero_gradients / report.images)
    found = masking_checks(
        context.loaded.classifier,
        context.test,
        right,
        Budget(budget.norm, budget.eps, budget.seed),
        findings=findings,
        partial=partial,
        progress=context.progress,
    )
    for check in failed_checks(found):
        context.progress.warning(f"{context.loaded.path}: {failure_text(check)}")
    return found


def _checked_budget(
    settings: RobustnessEvaluationSettings, report: RobustnessReport | MultiLabelRobustnessReport
) -> BudgetSettings:
    """Return the largest budget of which something is left standing, else the smallest: what nothing stands proves
    that it can be broken there, and says nothing of smaller ones."""
    if isinstance(report, RobustnessReport):
        left = {point.eps: point.worst_case_acc for point in report.curve}
    else:
        left = {point.eps: point.worst_case_label_acc for point in report.curve}
    standing = [budget for budget in settings.budgets if left[budget.eps] >= _STANDING]
    return standing[-1] if standing else settings.budgets[0]


def corruption_section(context: SectionContext, partial: PartialResults) -> CorruptionSection:
    """Return the accuracies under kdcam's corruptions."""
    names = None if "all" in context.settings.corruptions else context.settings.corruptions

    def of(classifier: torch.nn.Module) -> CorruptionReport:
        report = corruption_report(
            classifier,
            context.test,
            names=names,
            severities=context.settings.severities,
            n_examples=context.settings.n_examples,
            seed=context.settings.seed,
            progress=context.progress,
        )
        return context.with_subset(report)

    return _with_base(context, partial, of)


def corrupted_set_section(context: SectionContext, partial: PartialResults) -> CorruptionSection:
    """Return the accuracies on a published corrupted test set."""
    assert context.settings.corrupted_set is not None
    found = _open_set(context.loaded, context.settings.corrupted_set)

    def of(judged: torch.nn.Module) -> CorruptionReport:
        return corrupted_set_report(
            judged,
            found,
            severities=context.settings.severities,
            n_examples=context.settings.n_examples,
            batch_size=context.batch_size,
            device=context.loaded.classifier.mean.device,
            clean=context.loaded.batches(context.loaded.part("test"), batch_size=context.batch_size),
            progress=context.progress,
        )

    return _with_base(context, partial, of)


def _open_set(loaded: LoadedRun, folder: Path) -> CorruptedSet:
    classifier = loaded.classifier
    return open_corrupted_set(
        folder, classifier.class_names, image_size=classifier.image_size, channels=classifier.in_channels
    )


def _with_base(
    context: SectionContext, partial: PartialResults, of: Callable[[torch.nn.Module], CorruptionReport]
) -> CorruptionSection:
    report = partial.section("run", CorruptionReport, lambda: of(context.loaded.classifier))
    base = context.references.base
    if base is None:
        return CorruptionSection(report=report)
    stop_with_results_kept(context.progress)
    relative = relative_errors(report, partial.section("base", CorruptionReport, lambda: of(base.classifier)))
    return CorruptionSection(report=report, base=base.name, relative=relative)


def calibration_section(context: SectionContext) -> CalibrationReport:
    """Return the calibration on the whole test part; the temperature is fitted on the validation part alone."""
    logits, targets = context.logits("test")
    held = None if context.loaded.parts.validation is None else context.logits("validation")
    return calibration_report(logits, targets, validation=held)


def out_of_distribution_section(context: SectionContext) -> ForeignDataSection:
    """Return how well the scores tell the whole test part from foreign images."""
    named = context.settings.ood
    assert named is not None
    foreign = foreign_batches(named, context.loaded, batch_size=context.batch_size, progress=context.progress)
    found = collect_logits(
        context.loaded.classifier, foreign, task="foreign images", progress=context.progress
    )
    return ForeignDataSection(
        data=named, report=out_of_distribution_report(context.logits("test").logits, found.logits)
    )


def label_noise_section(context: SectionContext) -> LabelNoiseReport | None:
    """Return what label noise did to a finished run; None where it was trained without any, or is not finished."""
    folder, loaded = context.loaded.path, context.loaded
    if not exists(folder / NOISE_FILE):
        return None
    if not exists(folder / RESULT_FILE):
        context.progress.message(f"{folder}: is not finished, so its label noise is left out")
        return None
    train, noise = loaded.part("train"), loaded.parts.noise
    # of a rest of the part, that of the labels
    clean, wrong = read_noisy_labels(folder) if noise is None else (noise.clean, noise.noisy)
    found = memorisation(
        loaded.classifier,
        loaded.batches(train, batch_size=context.batch_size),
        clean,
        wrong,
        progress=context.progress,
    )
    return label_noise_report(folder, found)


__all__ = [
    "SectionContext",
    "attack_section",
    "calibration_section",
    "check_inputs",
    "check_section",
    "corrupted_set_section",
    "corruption_section",
    "label_noise_section",
    "out_of_distribution_section",
    "run_sections",
]
