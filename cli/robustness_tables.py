"""The tables of `kdcam evaluate-robustness`: a column a run; those beside attacks and checks: `shift_tables`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kdcam.blocks.document import Table
from kdcam.evaluation.robustness.attack_report import AttackRow, RobustnessReport
from kdcam.evaluation.robustness.masking_check import MASKING_WARNING, MaskingCheck, failure_text
from kdcam.evaluation.robustness.multi_label_attack_report import (
    MultiLabelAttackRow,
    MultiLabelRobustnessReport,
)
from kdcam.scores.main_scores import score_text
from kdcam.settings.messages import amount_text, eps_text

from .shift_tables import Runs, calibration_table, corruption_tables, foreign_table, label_noise_table

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
        return "-"
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
        return "-"
    value = "-" if check.value is None else f"{check.value:.3g}"
    at = "" if check.eps is None else f", eps {check.eps:.3g}"
    return f"{value} (limit {check.limit:.3g}{at})" + ("" if check.passed else " FAILED")


def _every(counted: str, curves: int, norm: str, eps: float) -> str:
    return f"each {counted}" + (f", eps {amount_text(eps, norm)}" if curves > 1 else "")


__all__ = [
    "AttackCost",
    "ScoreLine",
    "attack_tables",
    "check_table",
    "passes_table",
    "tables",
    "warnings",
]
