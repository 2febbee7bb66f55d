"""The tables of `kdcam evaluate-robustness`, a column a run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kdcam.blocks.document import MISSING, Table, number_text
from kdcam.evaluation.robustness.attack_report import AttackRow, RobustnessReport
from kdcam.evaluation.robustness.corruption_report import CorruptionReport
from kdcam.evaluation.robustness.gradient_masking_check import MASKING_WARNING, MaskingCheck, failure_text
from kdcam.evaluation.robustness.memorisation import LabelNoiseReport
from kdcam.evaluation.robustness.multi_label_attack_report import (
    MultiLabelAttackRow,
    MultiLabelRobustnessReport,
)
from kdcam.evaluation.robustness.robustness_file import (
    CorruptionSection,
    ForeignDataSection,
    RunRobustness,
)
from kdcam.scores.calibration import Calibration, CalibrationReport
from kdcam.scores.main_scores import score_text
from kdcam.settings.messages import amount_text, eps_text, listed

Runs = Sequence[RunRobustness]
ScoreLine = tuple[str, str, Sequence[float | None]]  # name, budget, a score a run


class AttackCost(NamedTuple):
    """What an attack took, in images through the network for each image attacked."""

    attack: str
    budget: str
    forwards: float | None
    backwards: float | None


def tables(found: Runs) -> list[Table]:
    """Return the tables of all sections that there are."""
    makers: dict[str, Callable[[Runs], Table | list[Table]]] = {
        "attacks": attack_tables,
        "checks": check_table,
        "corruptions": lambda runs: corruption_tables(runs, "corruptions"),
        "corrupted_set": lambda runs: corruption_tables(runs, "corrupted_set"),
        "calibration": calibration_table,
        "out_of_distribution": foreign_table,
        "label_noise": label_noise_table,
    }
    made: list[Table] = []
    for section, make in makers.items():
        some = [run for run in found if getattr(run, section)]
        if some:
            one = make(some)
            made += [one] if isinstance(one, Table) else one
    return made


def warnings(found: Runs) -> Iterator[str]:
    """Yield a line for each failed check."""

    for run in found:
        for check in run.failed_checks:
            yield f"WARNING: {run.run}: {failure_text(check)}"


def attack_tables(found: Runs) -> list[Table]:
    """Return tables with a row an attack and a column a run: one table a score, and one of what the attacks took.

    Runs with one label an image have an accuracy; those with several share none of their scores with them.
    """

    masked = {str(run.run): MASKING_WARNING if run.failed_checks else "" for run in found}
    single: list[tuple[str, RobustnessReport]] = []
    several: list[tuple[str, MultiLabelRobustnessReport]] = []
    for run in found:
        if isinstance(run.attacks, RobustnessReport):
            single.append((str(run.run), run.attacks))
        elif isinstance(run.attacks, MultiLabelRobustnessReport):
            several.append((str(run.run), run.attacks))
    made: list[Table] = []
    if single:
        names, reports = zip(*single, strict=True)
        spent = [[_attack_cost(row) for row in report.rows] for report in reports]
        accuracy = _table("accuracy", names, list(_accuracy_lines(reports)))
        made += [_warned(accuracy, masked), passes_table(names, spent)]
    if several:
        names, many = zip(*several, strict=True)
        made += [_warned(table, masked) for table in _multi_label_tables(names, many)]
        spent = [[_attack_cost(row) for row in report.rows] for report in many]
        made.append(passes_table(names, spent))
    return made


def _accuracy_lines(reports: Sequence[RobustnessReport]) -> Iterator[ScoreLine]:
    yield "clean", "", [report.clean_acc for report in reports]
    for same in zip(*(report.rows for report in reports), strict=True):
        yield same[0].attack, eps_text(same[0].norm, same[0].eps), [row.robust_acc for row in same]
        for stages in zip(*(row.stages for row in same), strict=True):
            # Networks of two or three classes have another second stage.
            name = " or ".join(dict.fromkeys(stage.attack for stage in stages))
            yield f"  after {name}", "", [stage.robust_acc for stage in stages]
    if len(reports[0].rows) > 1:
        curves = list(zip(*(report.curve for report in reports), strict=True))
        for points in curves:
            yield (
                "worst case",
                _every("image", len(curves), reports[0].rows[0].norm, points[0].eps),
                [point.worst_case_acc for point in points],
            )


def _multi_label_tables(
    names: Sequence[str], reports: Sequence[MultiLabelRobustnessReport]
) -> Iterator[Table]:
    titles = {
        "label_acc": ("label accuracy (decisions at probability 0.5)", "decision"),
        "mean_ap": ("mean average precision", None),
        "exact_acc": ("exact accuracy (images with all decisions right)", "image"),
    }
    for score, (title, counted) in titles.items():
        lines: list[ScoreLine] = [("clean", "", [getattr(report.clean, score) for report in reports])]
        rows: list[tuple[MultiLabelAttackRow, ...]] = list(
            zip(*(report.rows for report in reports), strict=True)
        )
        for same in rows:
            budget = eps_text(same[0].norm, same[0].eps)
            lines.append((same[0].attack, budget, [getattr(row.scores, score) for row in same]))
        curves = list(zip(*(report.curve for report in reports), strict=True))
        if counted is not None and len(rows) > 1:
            for points in curves:
                worst = [getattr(point, f"worst_case_{score}") for point in points]
                every = _every(counted, len(curves), rows[0][0].norm, points[0].eps)
                lines.append(("worst case", every, worst))
        yield _table(title, names, lines)


def _table(title: str, names: Sequence[str], lines: Sequence[ScoreLine]) -> Table:
    rows = [(name, budget, *(score_text("acc", score) for score in scores)) for name, budget, scores in lines]
    return Table(("attack", "budget", *names), rows, title=title, left=2)


def _warned(table: Table, masked: Mapping[str, str]) -> Table:
    """Return a table with a last row of warnings, where there are any."""
    notes = [masked[name] for name in table.columns[table.left :]]
    return table._replace(rows=[*table.rows, ("warning", "", *notes)]) if any(notes) else table


def passes_table(names: Sequence[str], spent: Sequence[Sequence[AttackCost]]) -> Table:
    """Return a table of the passes that each attack took."""
    rows = [
        (same[0].attack, same[0].budget, *(_passes_text(one) for one in same))
        for same in zip(*spent, strict=True)
    ]
    title = "passes an image attacked: forward + backward"
    return Table(("attack", "budget", *names), rows, title=title, left=2)


def _attack_cost(row: AttackRow | MultiLabelAttackRow) -> AttackCost:
    return AttackCost(row.attack, eps_text(row.norm, row.eps), row.forwards, row.backwards)


def _passes_text(spent: AttackCost) -> str:
    if spent.forwards is None or spent.backwards is None:
        return MISSING
    return f"{spent.forwards:,.1f} + {spent.backwards:,.1f}"


def check_table(found: Runs) -> Table:
    """Return a table of whether the attacks can be believed."""
    rows = []
    for name in dict.fromkeys(check.name for run in found for check in run.checks):
        of_runs = [{check.name: check for check in run.checks}.get(name) for run in found]
        rows.append((name, *map(_check_text, of_runs)))
    names = (str(run.run) for run in found)
    return Table(("check", *names), rows, title="can the attacks be believed?")


def _check_text(check: MaskingCheck | None) -> str:
    if check is None:
        return MISSING
    value = MISSING if check.value is None else f"{check.value:.3g}"
    at = "" if check.eps is None else f", eps {check.eps:.3g}"
    return f"{value} (limit {check.limit:.3g}{at})" + ("" if check.passed else " FAILED")


def _every(counted: str, curves: int, norm: str, eps: float) -> str:
    return f"each {counted}" + (f", eps {amount_text(eps, norm)}" if curves > 1 else "")


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
    rows = [(name, *(number_text(of_run.get(name), 3) for of_run in errors)) for name in every]
    rows.append(("mean", *_marked([number_text(one.mean_error, 3) for one in relatives], errors)))
    added = [number_text(one.mean_added_error, 3) for one in relatives]
    rows.append(("mean, added to the clean error", *_marked(added, errors)))
    title = f"errors as multiples of those of {sections[0].base}"
    return [Table(("corruption", *names), rows, title=title)]


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
    rows.append(
        ("temperature", "fitted on validation", *(number_text(report.temperature, 3) for report in reports))
    )
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
    rows = [("kind", *(report.kind or MISSING for report in reports))]
    rows += [(name, *(score_text("acc", value) for value in values)) for name, values in shares.items()]
    by_loss = [_memorisation_score(report, "wrong_label_auroc") for report in reports]
    rows.append(("wrong labels found by their loss (AUROC)", *(number_text(value, 3) for value in by_loss)))
    return Table(("label noise", *(str(run.run) for run in found)), rows, title="label noise")


def _memorisation_score(report: LabelNoiseReport, score: str) -> float | None:
    value: float | None = getattr(report.memorisation, score, None)
    return value


__all__ = [
    "AttackCost",
    "ScoreLine",
    "attack_tables",
    "calibration_table",
    "check_table",
    "corruption_tables",
    "foreign_table",
    "label_noise_table",
    "passes_table",
    "tables",
    "warnings",
]
