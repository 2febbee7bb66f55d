"""A comparison as Markdown for readers and as CSV for programs."""

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kdcam.comparison.table.comparison_result import ComparedRow
from kdcam.comparison.table.notes import notes_of
from kdcam.comparison.table.text_formats import columns_of, csv_values, evaluation_lines
from kdcam.settings.messages import listed, one_line

if TYPE_CHECKING:
    from kdcam.comparison.table.comparison import Comparison


def markdown_of(comparison: "Comparison") -> str:
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


def csv_of(comparison: "Comparison") -> str:
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


def _score_table(comparison: "Comparison") -> str:
    shown = columns_of(comparison)
    lines = [[column.text(row) for column in shown] for row in comparison.rows]
    return _markdown_table([column.heading for column in shown], lines, left=1)


def _evaluation_table(comparison: "Comparison") -> list[str]:
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


def _provenance(comparison: "Comparison") -> Iterator[str]:
    if comparison.command:
        yield f"`{shlex.join(comparison.command)}`"
    if comparison.sets:
        yield f"set in all rows: {'; '.join(comparison.sets)}"
    yield f"seeds: {listed(comparison.seeds)}"
    for machine in comparison.machines:
        facts = [f"{value} cores" if name == "cores" else str(value) for name, value in machine.items()]
        yield f"machine: {', '.join(facts)}"
    versions = [
        f"{name} {' / '.join(str(one) for one in found)}"
        for name, found in comparison.versions.items()
        if any(one is not None for one in found)
    ]
    if versions:
        yield ", ".join(versions)


def _section(title: str, items: Iterator[str] | Sequence[str]) -> list[str]:
    lines = [f"- {_without_markup(item)}" for item in items]
    return [f"## {title}", "\n".join(lines)] if lines else []


def _without_markup(text: str) -> str:
    """Return a text that no name in it breaks: on one line and without HTML."""
    return one_line(text).replace("<", "&lt;")


def _joined_lines(text: str) -> str:
    return " ".join(text.split())


__all__ = ["csv_of", "markdown_of"]
