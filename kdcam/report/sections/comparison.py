"""What `kdcam compare` left in a folder, as sections of a report: read without torch."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from kdcam.blocks.document import Block, Facts, Note, Section, Table
from kdcam.comparison.table.notes import notes_of
from kdcam.comparison.table.output_folder import COMPARISON_FILE, CURVES_FILE
from kdcam.comparison.table.text_formats import (
    Comparison,
    columns_of,
    evaluation_lines,
    stored_comparison,
    version_texts,
)
from kdcam.files.json_files import layout_errors, read_json
from kdcam.files.paths import is_file
from kdcam.report.reported_run import read_picture
from kdcam.settings.messages import listed

_CURVES = (
    "Left: validation score by epoch, mean and range over the seeds. Right: epochs to each level of it, median over "
    "the seeds."
)


def comparison_section(folder: Path, *, title: str) -> Section:
    """Return the table of a comparison, what its numbers are, its curves, and what failed.

    Raises ``CheckpointError`` where its files are damaged or of another layout.
    """
    document = read_json(folder / COMPARISON_FILE)
    with layout_errors(folder / COMPARISON_FILE):
        stored = stored_comparison(document)
        notes = (Note(text) for text in notes_of(stored))
        blocks: list[Block] = [*_unfinished(stored), *_tables(stored), *notes]
        facts = _facts(stored)
    if is_file(folder / CURVES_FILE):
        blocks.append(read_picture(folder / CURVES_FILE, _CURVES))
    return Section(title, (*blocks, facts))


def _unfinished(stored: Comparison) -> Iterator[Note]:
    for run in stored.failed:
        yield Note(f"{run.name} failed: {' '.join(run.reason.split())}", warning=True)
    if stored.missing:
        yield Note(f"Not run yet: {listed(stored.missing)}.", warning=True)


def _tables(stored: Comparison) -> Iterator[Table]:
    columns = columns_of(stored)
    lines = [[column.text(row) for column in columns] for row in stored.rows]
    yield Table([column.heading for column in columns], lines)
    heads, evaluations = evaluation_lines(stored)
    if evaluations:
        yield Table(heads, evaluations, title="evaluations after training", left=2)


def _facts(stored: Comparison) -> Facts:
    machines = ["; ".join(f"{key} {value}" for key, value in one.items()) for one in stored.machines]
    pairs = (
        ("command", shlex.join(stored.command)),
        ("set in all rows", "; ".join(stored.sets)),
        ("seeds", listed(stored.seeds)),
        *(("machine", one) for one in machines),
        ("versions", listed(version_texts(stored))),
    )
    rows = [
        (row.name, f"recipe {listed([row.source, *row.settings])}; losses {listed(row.losses)}")
        for row in stored.rows
    ]
    return Facts([*((name, text) for name, text in pairs if text), *rows], title="Made with")


__all__ = ["comparison_section"]
