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
from kdcam.evaluation.robustness.corrupted_sets import ArraySet, FolderSet, open_corrupted_set
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
from kdcam.evaluation.robustness.masking_check import MaskingCheck, failed_checks, failure_text
from kdcam.evaluation.robustness.masking_report import AttackFindings, masking_checks
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
from kdcam.evaluation.robustness.robustness_file import (
    ROBUSTNESS_FILE,
    CorruptionSection,
    ForeignDataSection,
    RobustnessFile,
)
from kdcam.evaluation.robustness.robustness_settings import BudgetSettings, RobustnessEvaluationSettings
from kdcam.evaluation.robustness.section_keys import asked_sections
from kdcam.files.paths import exists
from kdcam.runs.data_record import read_noisy_labels
from kdcam.runs.open_run import LoadedRun
from kdcam.runs.run_files import NOISE_FILE, RESULT_FILE
from kdcam.runtime.progress import Progress
from kdcam.scores.calibration import CalibrationReport, calibration_report
from kdcam.settings.messages import listed

AnyReport = TypeVar("AnyReport", bound=BaseModel)


@dataclass(frozen=True)
class SectionContext:
    """One run with what is done to it."""

    loaded: LoadedRun
    settings: RobustnessEvaluationSettings
    batch_size: int
    progress: Progress
    others: ReferenceNetworks
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

    def told(self, report: AnyReport) -> AnyReport:
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


_STANDING = 0.05  # kdcam's choice: five of the hundred images that the checks look at


def check_section(
    one: SectionContext,
    report: RobustnessReport | MultiLabelRobustnessReport,
    work: PartialResults,
    before: PartialResults,
) -> tuple[MaskingCheck, ...]:
    """Return whether the attacks can be believed, at the largest budget that leaves something; warns of what failed.

    Args:
        one: the run.
        report: of its attacks.
        work: holds the checks that are done.
        before: holds which images are right at the start, where the attacks found that just now.
    """
    budget = _checked_budget(one.settings, report)
    if isinstance(report, RobustnessReport):
        right = right_images(
            one.loaded.classifier, one.test, report.images, work=before, progress=one.progress
        )
        known = AttackFindings(
            report.images,
            report.zero_gradients / max(int(right.sum()), 1),
            report.black_box_gain,
            report.transfer_gain,
        )
    else:
        right = torch.ones(report.images, dtype=torch.bool)
        known = AttackFindings(report.images, report.zero_gradients / report.images)
    found = masking_checks(
        one.loaded.classifier,
        one.test,
        right,
        Budget(budget.norm, budget.eps, budget.seed),
        known=known,
        work=work,
        progress=one.progress,
    )
    for check in failed_checks(found):
        one.progress.warning(f"{one.loaded.path}: {failure_text(check)}")
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


def run_sections(one: SectionContext, kept: RobustnessFile, keys: Mapping[str, str]) -> None:
    """Put all sections that are asked for into the file of results, each as soon as it is whole.

    What the file holds under the same key stays, and work that is under way goes on.

    Args:
        one: the run.
        kept: its file.
        keys: of each section, as `section_keys` gives them.

    Raises ``KdcamError`` subclasses as the sections do, ``Interrupted`` when asked to stop.
    """
    folder, asked = one.loaded.path, asked_sections(one.loaded.path, one.settings)
    works = {section: PartialResults(folder, key=keys[section], fresh=one.fresh) for section in asked}
    # Work under way is newer than a result of the same key: someone started over.
    taken = [
        section
        for section, work in works.items()
        if not one.fresh and not work.resumed and kept.has(section, keys[section])
    ]
    if one.refused is not None and len(taken) < len(works):
        raise one.refused
    _tell_of_resumed(one, works, taken)
    if one.settings.attack and not kept.has("checks", keys["checks"]):
        kept.drop("checks")  # they were of other attacks
    for section, work in works.items():
        if section in taken:
            kept.keep(section)
        else:
            stop_with_results_kept(one.progress)
            # The clean pass that the attacks began with is of use to the checks.
            before = works["attacks"] if section == "checks" and "attacks" not in taken else work
            kept.put(section, keys[section], _section(one, section, work, kept, before))
            work.finish()


def _tell_of_resumed(one: SectionContext, works: Mapping[str, PartialResults], taken: Sequence[str]) -> None:
    folder = one.loaded.path
    for work in works.values():
        if work.note is not None:
            one.progress.warning(f"{folder / work.name}: {work.note}; that section starts over")
    if len(taken) == len(works):
        one.progress.message(f"{folder}: evaluated just so before, {ROBUSTNESS_FILE} is taken as it is")
        return
    resumed = [work.name for work in works.values() if work.resumed]
    one.progress.message(
        f"{folder}: {one.settings.summary}"
        + (f"; goes on from {listed(resumed)}" if resumed else "")
        + (f"; {listed(taken)} found just so before, taken from {ROBUSTNESS_FILE}" if taken else "")
    )


def _section(
    one: SectionContext, section: str, work: PartialResults, kept: RobustnessFile, before: PartialResults
) -> Any:
    """Return a section, found now; None: the run has none."""
    match section:
        case "attacks":
            return attack_section(one, work)
        case "checks":
            report = kept.whole.attacks
            assert report is not None  # put before
            return check_section(one, report, work, before)
        case "corruptions":
            return corruption_section(one, work)
        case "corrupted_set":
            return published_section(one, work)
        case "calibration":
            return calibration_section(one)
        case "out_of_distribution":
            return foreign_section(one)
        case _:
            return label_noise_section(one)


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


def attack_section(
    one: SectionContext, work: PartialResults
) -> RobustnessReport | MultiLabelRobustnessReport:
    """Return the accuracies under every attack of every budget."""
    several = one.loaded.recipe.task == "multi-label"
    report_of: Callable[..., RobustnessReport | MultiLabelRobustnessReport]
    report_of = multi_label_attack_report if several else attack_report
    report = report_of(
        one.loaded.classifier,
        one.test,
        [config for budget in one.settings.budgets for config in budget.configs()],
        n_examples=one.settings.n_examples,
        source=one.others.source,
        work=work,
        progress=one.progress,
    )
    return one.told(report)


def corruption_section(one: SectionContext, work: PartialResults) -> CorruptionSection:
    """Return the accuracies under kdcam's corruptions."""
    names = None if "all" in one.settings.corruptions else one.settings.corruptions

    def of(classifier: torch.nn.Module) -> CorruptionReport:
        report = corruption_report(
            classifier,
            one.test,
            names=names,
            severities=one.settings.severities,
            n_examples=one.settings.n_examples,
            seed=one.settings.seed,
            progress=one.progress,
        )
        return one.told(report)

    return _with_base(one, work, of)


def published_section(one: SectionContext, work: PartialResults) -> CorruptionSection:
    """Return the accuracies on a published corrupted test set."""
    assert one.settings.corrupted_set is not None
    found = _open_set(one.loaded, one.settings.corrupted_set)

    def of(judged: torch.nn.Module) -> CorruptionReport:
        return corrupted_set_report(
            judged,
            found,
            severities=one.settings.severities,
            n_examples=one.settings.n_examples,
            batch_size=one.batch_size,
            device=one.loaded.classifier.mean.device,
            clean=one.loaded.batches(one.loaded.part("test"), batch_size=one.batch_size),
            progress=one.progress,
        )

    return _with_base(one, work, of)


def _open_set(loaded: LoadedRun, folder: Path) -> ArraySet | FolderSet:
    classifier = loaded.classifier
    return open_corrupted_set(
        folder, classifier.class_names, image_size=classifier.image_size, channels=classifier.in_channels
    )


def _with_base(
    one: SectionContext, work: PartialResults, of: Callable[[torch.nn.Module], CorruptionReport]
) -> CorruptionSection:
    report = work.section("run", CorruptionReport, lambda: of(one.loaded.classifier))
    base = one.others.base
    if base is None:
        return CorruptionSection(report=report)
    stop_with_results_kept(one.progress)
    relative = relative_errors(report, work.section("base", CorruptionReport, lambda: of(base.classifier)))
    return CorruptionSection(report=report, base=base.name, relative=relative)


def calibration_section(one: SectionContext) -> CalibrationReport:
    """Return the calibration on the whole test part; the temperature is fitted on the validation part alone."""
    logits, targets = one.logits("test")
    held = None if one.loaded.parts.validation is None else one.logits("validation")
    return calibration_report(logits, targets, validation=held)


def foreign_section(one: SectionContext) -> ForeignDataSection:
    """Return how well the whole test part is told from foreign images."""
    named = one.settings.ood
    assert named is not None
    others = foreign_batches(named, one.loaded, batch_size=one.batch_size, progress=one.progress)
    found = collect_logits(one.loaded.classifier, others, task="foreign images", progress=one.progress)
    return ForeignDataSection(
        data=named, report=out_of_distribution_report(one.logits("test").logits, found.logits)
    )


def label_noise_section(one: SectionContext) -> LabelNoiseReport | None:
    """Return what label noise did to a finished run; None where it was trained without any, or is not finished."""
    folder, loaded = one.loaded.path, one.loaded
    if not exists(folder / NOISE_FILE):
        return None
    if not exists(folder / RESULT_FILE):
        one.progress.message(f"{folder}: is not finished, so its label noise is left out")
        return None
    train, noise = loaded.part("train"), loaded.parts.noise
    # of a rest of the part, that of the labels
    clean, wrong = read_noisy_labels(folder) if noise is None else (noise.clean, noise.noisy)
    found = memorisation(
        loaded.classifier,
        loaded.batches(train, batch_size=one.batch_size),
        clean,
        wrong,
        progress=one.progress,
    )
    return label_noise_report(folder, found)


__all__ = [
    "SectionContext",
    "attack_section",
    "calibration_section",
    "check_inputs",
    "check_section",
    "corruption_section",
    "foreign_section",
    "label_noise_section",
    "published_section",
    "run_sections",
]
