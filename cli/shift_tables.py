"""The tables of `kdcam evaluate-robustness` on corruptions, calibration, other images and label noise."""

from collections.abc import Mapping, Sequence

from kdcam.blocks.document import Table
from kdcam.evaluation.robustness.corruption_report import CorruptionReport
from kdcam.evaluation.robustness.memorisation import LabelNoiseReport
from kdcam.evaluation.robustness.robustness_file import (
    CorruptionSection,
    ForeignDataSection,
    RunRobustness,
)
from kdcam.scores.calibration import Calibration, CalibrationReport
from kdcam.scores.main_scores import score_text
from kdcam.settings.messages import listed

Runs = Sequence[RunRobustness]


def corruption_tables(found: Runs, section: str) -> list[Table]:
    """Return a table of errors by corruption; of a single run by severity, too; and relative to a base run."""
    sections: list[CorruptionSection] = [getattr(run, section) for run in found]
    first, names = sections[0].report, [str(run.run) for run in found]
    title = _corruption_title([one.report for one in sections])
    if len(found) == 1:
        columns = ("corruption", *(f"severity {severity}" for severity in first.severities), "mean error")
        rows = [
            (
                row.name,
                *(score_text("acc", 1 - one) for one in row.accuracies),
                score_text("acc", row.mean_error),
            )
            for row in first.rows
        ]
        rows.append(("mean", *("" for _ in first.severities), score_text("acc", first.mean_error)))
        made = [Table(columns, rows, title=title)]
    else:
        errors = [{row.name: row.mean_error for row in one.report.rows} for one in sections]
        every = dict.fromkeys(name for of_run in errors for name in of_run)
        lines = [(name, *(score_text("acc", of_run.get(name)) for of_run in errors)) for name in every]
        means = [score_text("acc", one.report.mean_error) for one in sections]
        lines.append(("mean", *_marked(means, errors)))
        made = [Table(("corruption", *names), lines, title=title)]
    return made + _relative_table(names, sections)


def _corruption_title(reports: Sequence[CorruptionReport]) -> str:
    notes = listed(dict.fromkeys(report.note for report in reports))
    subsets = " or ".join(dict.fromkeys(report.subset for report in reports))
    severities = listed(reports[0].severities)
    return f"{reports[0].source}: error, severities {severities}, {subsets} ({notes})"


def _marked(means: Sequence[str], errors: Sequence[Mapping[str, float | None]]) -> list[str]:
    """Return means, each with how many corruptions it is of where runs differ: gray ones have none of colours."""
    if all(of_run.keys() == errors[0].keys() for of_run in errors):
        return list(means)
    return [f"{mean} (of {len(of_run)})" for mean, of_run in zip(means, errors, strict=True)]


def _relative_table(names: Sequence[str], sections: Sequence[CorruptionSection]) -> list[Table]:
    relatives = [one.relative for one in sections if one.relative is not None]
    if len(relatives) < len(sections):
        return []
    errors = [{row.name: row.error for row in one.rows} for one in relatives]
    every = dict.fromkeys(name for of_run in errors for name in of_run)
    rows = [(name, *(_ratio(of_run.get(name)) for of_run in errors)) for name in every]
    rows.append(("mean", *_marked([_ratio(one.mean_error) for one in relatives], errors)))
    added = [_ratio(one.mean_added_error) for one in relatives]
    rows.append(("mean, added to the clean error", *_marked(added, errors)))
    title = f"errors as multiples of those of {sections[0].base}"
    return [Table(("corruption", *names), rows, title=title)]


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def calibration_table(found: Runs) -> Table:
    """Return a table of calibration before and after temperature scaling."""
    reports: list[CalibrationReport] = [run.calibration for run in found if run.calibration]
    states: dict[str, Sequence[Calibration | None]] = {
        "as trained": [report.before for report in reports],
        "at its temperature": [report.after for report in reports],
    }
    rows = [
        (score, when, *(score_text(score, getattr(state, score, None)) for state in of_runs))
        for score in ("nll", "brier", "ece", "mce")
        for when, of_runs in states.items()
    ]
    rows.append(("temperature", "fitted on validation", *(_ratio(report.temperature) for report in reports)))
    return Table(
        ("calibration", "", *(str(run.run) for run in found)), rows, title="calibration, test part", left=2
    )


def foreign_table(found: Runs) -> Table:
    """Return a table of how well runs tell their own images from others."""
    rows = []
    sections: list[ForeignDataSection] = [run.out_of_distribution for run in found if run.out_of_distribution]
    for same in zip(*(section.report.rows for section in sections), strict=True):
        rows.append((same[0].score, "AUROC", *(f"{row.auroc:.4f}" for row in same)))
        rows.append(
            (same[0].score, "foreign at 95 % own", *(score_text("acc", row.fpr_at_95) for row in same))
        )
    return Table(
        ("score", "", *(str(run.run) for run in found)),
        rows,
        title=f"images of {sections[0].data}",
        left=2,
    )


def label_noise_table(found: Runs) -> Table:
    """Return a table of what became of wrong training labels."""
    reports = [run.label_noise for run in found if run.label_noise]
    shares: dict[str, list[float | None]] = {
        "wrong labels, nominal": [report.nominal_rate for report in reports],
        "wrong labels, realised": [report.realised_rate for report in reports],
        "clean test, selected": [report.selected_test_acc for report in reports],
        "clean test, last": [report.last_test_acc for report in reports],
        "wrong labels memorised": [_memorisation_score(report, "memorised") for report in reports],
        "wrong labels recovered": [_memorisation_score(report, "recovered") for report in reports],
        "right labels learned": [_memorisation_score(report, "clean_label_acc") for report in reports],
    }
    rows = [("kind", *(report.kind or "-" for report in reports))]
    rows += [(name, *(score_text("acc", value) for value in values)) for name, values in shares.items()]
    by_loss = [_memorisation_score(report, "wrong_label_auroc") for report in reports]
    rows.append(("wrong labels found by their loss (AUROC)", *map(_ratio, by_loss)))
    return Table(("label noise", *(str(run.run) for run in found)), rows, title="label noise")


def _memorisation_score(report: LabelNoiseReport, score: str) -> float | None:
    value: float | None = getattr(report.memorisation, score, None)
    return value


__all__ = ["Runs", "calibration_table", "corruption_tables", "foreign_table", "label_noise_table"]
