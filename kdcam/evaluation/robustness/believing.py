"""The section of one run's robustness that says whether its attacks can be believed."""

import torch

from kdcam.attacks.config import BudgetSettings
from kdcam.evaluation.robustness.attack_report import RobustnessReport, right_images
from kdcam.evaluation.robustness.masking_check import MASKING_WARNING, MaskingCheck, failed_checks
from kdcam.evaluation.robustness.masking_report import AttackFindings, masking_checks
from kdcam.evaluation.robustness.multi_label_attack_report import MultiLabelRobustnessReport
from kdcam.evaluation.robustness.partial_results import PartialResults
from kdcam.evaluation.robustness.probe import Budget
from kdcam.evaluation.robustness.robustness_sections import SectionContext
from kdcam.evaluation.robustness.robustness_settings import RobustnessEvaluationSettings
from kdcam.settings.messages import failed_check_text

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


def failure_text(check: MaskingCheck) -> str:
    """Return in words what a failed check found."""
    assert check.value is not None
    return failed_check_text(check.name, check.text, check.value, check.limit, warning=MASKING_WARNING)


__all__ = ["check_section", "failure_text"]
