"""A comparison as text: Markdown for readers, its columns, CSV for programs."""

import csv
import io
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from kdcam.comparison.table.comparison_result import (
    ComparedRow,
    ComparisonResult,
    EpochsToReach,
    EvaluationScore,
)
from kdcam.comparison.table.notes import footnotes, notes_of
from kdcam.comparison.table.run_measures import evaluation_title
from kdcam.scores.intervals import PairedDifference, Summary
from kdcam.scores.main_scores import SCORE_NAMES
from kdcam.settings.messages import listed, one_line


@dataclass(frozen=True)
class Comparison(ComparisonResult):
    """What was compared and what came out."""

    def to_csv(self) -> str:
        """Return a line a row, scores in [0, 1]; columns that are empty everywhere are left out."""
        return csv_of(self)

    def to_markdown(self) -> str:
        """Return the table, what its numbers mean, the rows, the failed runs, and what it was made with."""
        return markdown_of(self)


def stored_comparison(document: Mapping[str, Any]) -> Comparison:
    """Return what comparison.json holds; ``ValueError`` (pydantic's) where it has another layout."""
    return TypeAdapter(Comparison).validate_python(document)


def markdown_of(comparison: ComparisonResult) -> str:
    """Return the table, what its numbers mean, the rows, the failed runs, and what it was made with."""
    blocks = [
        _score_table(comparison),
        *_evaluation_table(comparison),
        *_section("What the numbers are", list(notes_of(comparison))),
        *_section("Rows", [_row_description(row) for row in comparison.rows]),
        *_section("Failed runs", [f"{run.name}: {_joined_lines(run.reason)}" for run in comparison.failed]),
        *_section("Not run yet", comparison.missing),
        *_section("Made with", _provenance(comparison)),
    ]
    return "\n\n".join(blocks) + "\n"


def _score_table(comparison: ComparisonResult) -> str:
    shown = columns_of(comparison)
    lines = [[column.text(row) for column in shown] for row in comparison.rows]
    return _markdown_table([column.heading for column in shown], lines, left=1)


def _evaluation_table(comparison: ComparisonResult) -> list[str]:
    head, lines = evaluation_lines(comparison)
    return ["## Evaluations after training", _markdown_table(head, lines, left=2)] if lines else []


def _markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]], *, left: int) -> str:
    rule = [*["---"] * left, *["---:"] * (len(head) - left)]
    texts = [[_without_markup(text).replace("|", "\\|") for text in line] for line in (head, rule, *lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in texts)


def _row_description(row: ComparedRow) -> str:
    facts = [
        f"recipe {row.source}",
        "" if row.method is None else f"method {row.method}",
        f"losses {'+'.join(row.losses)}",
        *row.settings,
        row.start or "",
        f"taught by {listed(row.teachers)}" if row.teachers else "",
    ]
    return f"{row.name}: {'; '.join(fact for fact in facts if fact)} (runs/{row.folder}-SEED)"


def _provenance(comparison: ComparisonResult) -> Iterator[str]:
    if comparison.command:
        yield f"`{shlex.join(comparison.command)}`"
    if comparison.sets:
        yield f"set in all rows: {'; '.join(comparison.sets)}"
    yield f"seeds: {listed(comparison.seeds)}"
    for machine in comparison.machines:
        facts = [f"{value} cores" if name == "cores" else str(value) for name, value in machine.items()]
        yield f"machine: {', '.join(facts)}"
    if versions := version_texts(comparison):
        yield ", ".join(versions)


def version_texts(comparison: ComparisonResult) -> list[str]:
    """Return the packages that the runs were made with: ``torch 2.7.0 / 2.8.0`` where there were several versions."""
    return [
        f"{name} {' / '.join(str(one) for one in found)}"
        for name, found in comparison.versions.items()
        if any(one is not None for one in found)
    ]


def _section(title: str, items: Iterator[str] | Sequence[str]) -> list[str]:
    lines = [f"- {_without_markup(item)}" for item in items]
    return [f"## {title}", "\n".join(lines)] if lines else []


def _without_markup(text: str) -> str:
    """Return a text that no name in it breaks: on one line and without HTML."""
    return one_line(text).replace("<", "&lt;")


def _joined_lines(text: str) -> str:
    return " ".join(text.split())


class Column(NamedTuple):
    """One column of the Markdown table."""

    heading: str
    text: Callable[[ComparedRow], str]  # empty: nothing is known


def columns_of(comparison: ComparisonResult) -> list[Column]:
    """Return the columns of a comparison that have a text in any row."""
    score = f"{SCORE_NAMES[comparison.score]}, %"
    level = "" if comparison.level is None else f"{comparison.level * 100:.2f}"
    marks = footnotes(comparison)
    columns = [
        Column("row", lambda row: row.name),
        Column("seeds", lambda row: seeds_text(row, len(comparison.seeds))),
        Column(f"test, selected ({score})", lambda row: percent_text(row.test_selected)),
        Column(f"test, last ({score})", lambda row: percent_text(row.test_last)),
        Column(f"validation, selected ({score})", lambda row: percent_text(row.validation_selected)),
        Column(f"validation, last ({score})", lambda row: percent_text(row.validation_last)),
        Column("best epoch", lambda row: epoch_text(row.best_epoch)),
        Column(
            f"difference to {comparison.base}, points [95 %]", lambda row: difference_text(row.difference)
        ),
        Column("agreement with the teacher (%)", lambda row: percent_text(row.agreement)),
        Column("KL from the teacher (nats)", lambda row: plain_text(row.kl)),
        Column("CAM similarity", lambda row: plain_text(row.cam_similarity)),
        Column("CAAM-CAM similarity", lambda row: plain_text(row.caam_cam_similarity)),
        Column(f"epochs to {level} %", lambda row: epochs_text(row.epochs_to_base)),
        Column("images/s", lambda row: speed_text(row.images_per_second)),
        Column("seconds", lambda row: speed_text(row.seconds)),
        Column("parameters", lambda row: "" if row.parameters is None else f"{row.parameters:,}"),
        Column("published (%)", lambda row: _published_text(row, marks)),
    ]
    return [column for column in columns if any(column.text(row) for row in comparison.rows)]


def _published_text(row: ComparedRow, marks: dict[str, int]) -> str:
    if not row.published:
        return ""
    return f"{row.published['accuracy']:.2f} ({marks[str(row.published['source'])]})"


def evaluation_lines(comparison: ComparisonResult) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the heads and lines of a table of later evaluations: a line for each number and row that has it."""
    names = dict.fromkeys(name for row in comparison.rows for name in row.evaluations)
    lines = [
        (
            evaluation_title(*name.split("/", 1)),
            row.name,
            _percent_of(row.evaluations[name].summary, len(row.seeds)),
            _evaluation_difference(row.evaluations[name]),
        )
        for name in names
        for row in comparison.rows
        if name in row.evaluations
    ]
    heads = ("evaluation", "row", "%", f"difference to {comparison.base}, points [95 %]")
    width = len(heads) if any(line[-1] for line in lines) else len(heads) - 1
    return heads[:width], [line[:width] for line in lines]


def _percent_of(summary: Summary, runs: int) -> str:
    return percent_text(summary) + ("" if summary.count == runs else f" (n = {summary.count})")


def _evaluation_difference(score: EvaluationScore) -> str:
    return difference_text(score.difference) + (" over episodes" if score.over == "episodes" else "")


def percent_text(summary: Summary | None) -> str:
    """Return a share as per cent, mean and sample standard deviation: ``71.23 ± 0.45``; empty for None."""
    return _with_sd(summary, 100.0, 2)


def plain_text(summary: Summary | None) -> str:
    """Return mean and sample standard deviation with three decimals; empty for None."""
    return _with_sd(summary, 1.0, 3)


def speed_text(summary: Summary | None) -> str:
    """Return the mean, whole from 100 on: ``12,345``; empty for None."""
    if summary is None:
        return ""
    return f"{summary.mean:,.0f}" if summary.mean >= 100 else f"{summary.mean:.3g}"


def epoch_text(summary: Summary | None) -> str:
    """Return mean and sample standard deviation with one decimal; empty for None."""
    return _with_sd(summary, 1.0, 1)


def difference_text(difference: PairedDifference | None) -> str:
    """Return a difference of shares in percentage points: ``+0.45 [-0.10, +1.00] (n = 3)``; empty for None."""
    if difference is None:
        return ""
    interval = ""
    if difference.low is not None and difference.high is not None:
        interval = f" [{difference.low * 100:+.2f}, {difference.high * 100:+.2f}]"
    return f"{difference.mean * 100:+.2f}{interval} (n = {difference.pairs})"


def epochs_text(epochs: EpochsToReach | None) -> str:
    """Return the median, and how many runs reached the level where not all did: ``12.5 (2 of 3)``, ``never``."""
    if epochs is None:
        return ""
    median = "never" if epochs.median is None else f"{epochs.median:.1f}"
    share = f" ({epochs.reached} of {epochs.runs})" if 0 < epochs.reached < epochs.runs else ""
    return median + share


def seeds_text(row: ComparedRow, wanted: int) -> str:
    """Return how many seeds are done: ``3``, or ``2 of 3``."""
    return str(wanted) if len(row.seeds) == wanted else f"{len(row.seeds)} of {wanted}"


def _with_sd(summary: Summary | None, scale: float, digits: int) -> str:
    if summary is None:
        return ""
    sd = "" if summary.sd is None else f" ± {summary.sd * scale:.{digits}f}"
    return f"{summary.mean * scale:.{digits}f}{sd}"


def csv_of(comparison: ComparisonResult) -> str:
    """Return a line a row with plain numbers; columns that are empty everywhere are left out."""
    rows = [csv_values(row, part=comparison.part) for row in comparison.rows]
    # The row with the most columns gives their order; each row's own ones are in that order.
    names = list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))
    filled = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, filled, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_values(row: ComparedRow, *, part: str) -> dict[str, object]:
    """Return a row's values by the names of the CSV's columns; None where nothing is known.

    ``part``: whose selected scores the difference is of.
    """
    values: dict[str, object] = {
        "row": row.name,
        "folder": row.folder,
        "recipe": row.source,
        "method": row.method,
        "losses": "+".join(row.losses),
        "settings": "; ".join(row.settings) or None,
        "teacher": "; ".join(row.teachers) or None,
        "start": row.start,
        "seeds": " ".join(map(str, row.seeds)),
        "runs": len(row.seeds),
    }
    for name in ("test_selected", "test_last", "validation_selected", "validation_last"):
        values |= _mean_and_sd(name, getattr(row, name))
    if row.difference is not None:
        values |= {
            "difference_of": f"{part}_selected",
            "difference": row.difference.mean,
            "difference_low": row.difference.low,
            "difference_high": row.difference.high,
            "difference_pairs": row.difference.pairs,
        }
    for name in ("best_epoch", "agreement", "kl", "cam_similarity", "caam_cam_similarity"):
        values |= _mean_and_sd(name, getattr(row, name))
    if row.epochs_to_base is not None:
        values |= {
            "epochs_to_base": row.epochs_to_base.median,
            "epochs_to_base_reached": row.epochs_to_base.reached,
        }
    for name in ("images_per_second", "seconds"):
        values |= _mean_and_sd(name, getattr(row, name))
    for name, score in row.evaluations.items():
        values |= _mean_and_sd(name, score.summary) | {f"{name}_runs": score.summary.count}
        if score.difference is not None:
            values |= {
                f"{name}_difference": score.difference.mean,
                f"{name}_difference_low": score.difference.low,
                f"{name}_difference_high": score.difference.high,
                f"{name}_difference_pairs": score.difference.pairs,
            }
    published = row.published or {}
    return values | {
        "parameters": row.parameters,
        "published_percent": published.get("accuracy"),
        "published_source": published.get("source"),
    }


def _mean_and_sd(name: str, summary: Summary | None) -> dict[str, object]:
    return {} if summary is None else {f"{name}_mean": summary.mean, f"{name}_sd": summary.sd}


__all__ = [
    "Column",
    "Comparison",
    "columns_of",
    "csv_of",
    "csv_values",
    "difference_text",
    "epoch_text",
    "epochs_text",
    "evaluation_lines",
    "markdown_of",
    "percent_text",
    "plain_text",
    "seeds_text",
    "speed_text",
    "stored_comparison",
    "version_texts",
]
