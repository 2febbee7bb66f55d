"""A comparison as Markdown for readers and as CSV for programs."""

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from kdcam.comparison.columns import (
    Column,
    difference_text,
    epoch_text,
    epochs_text,
    numbers,
    percent_text,
    plain_text,
    seeds_text,
    speed_text,
)
from kdcam.comparison.notes import choosing_note, other_data_note, selection_notes, tested_note
from kdcam.comparison.results import ComparedRow
from kdcam.selection import SCORE_NAMES, SCORE_WORDS
from kdcam.wording import listed

if TYPE_CHECKING:
    from kdcam.comparison.table import Comparison


def markdown_of(comparison: "Comparison") -> str:
    """Return the table, what its numbers mean, the rows, the failed runs, and what it was made with."""
    blocks = [
        _table(comparison),
        *_section("What the numbers are", [*_notes(comparison), *_sources(comparison)]),
        *_section("Rows", [_described(row) for row in comparison.rows]),
        *_section("Failed runs", [f"{run.name}: {_line(run.reason)}" for run in comparison.failed]),
        *_section("Not run yet", comparison.missing),
        *_section("Made with", _made_with(comparison)),
    ]
    return "\n\n".join(blocks) + "\n"


def csv_of(comparison: "Comparison") -> str:
    """Return a line a row with plain numbers; columns that are empty everywhere are left out."""
    rows = [numbers(row, part=comparison.part) for row in comparison.rows]
    # The row with the most columns gives their order; each row's own ones are in that order.
    names = list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))
    filled = [name for name in names if any(row.get(name) not in (None, "") for row in rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, filled, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _columns(comparison: "Comparison") -> list[Column]:
    score = f"{SCORE_NAMES[comparison.score]}, %"
    level = "" if comparison.level is None else f"{comparison.level * 100:.2f}"
    footnotes = _footnotes(comparison)
    return [
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
        Column("published (%)", lambda row: _published(row, footnotes)),
    ]


def _table(comparison: "Comparison") -> str:
    columns = [
        (column.heading, [column.text(row) for row in comparison.rows]) for column in _columns(comparison)
    ]
    shown = [(heading, texts) for heading, texts in columns if any(texts)]
    lines = [
        [heading for heading, _ in shown],
        ["---", *["---:"] * (len(shown) - 1)],
        *([texts[index] for _, texts in shown] for index in range(len(comparison.rows))),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _notes(comparison: "Comparison") -> Iterator[str]:
    measure = SCORE_WORDS[comparison.score]
    yield f"Scores: {measure} in per cent, mean ± sample standard deviation over the seeds that are done."
    yield from (f"{note}." for note in selection_notes(comparison))
    yield from (f"{note}." for note in (tested_note(comparison), choosing_note(comparison)) if note)
    if any(row.difference is not None for row in comparison.rows):
        yield (
            f"Difference: of the selected {comparison.part} score, in percentage points, paired by seed (n pairs), "
            "with Student's 95 % interval of the mean; it is not corrected for the number of rows."
        )
    if other_data := other_data_note(comparison):
        yield f"{other_data}."
    if any(row.agreement is not None for row in comparison.rows):
        yield from _agreement_notes(comparison)
    if comparison.level is not None:
        yield (
            f"Epochs to {comparison.level * 100:.2f} %: the first epoch whose validation score is at least that of "
            f"{comparison.base} after its last epoch (mean over its seeds); median over the runs, where never counts "
            "as infinite (in brackets how many get there)."
        )
    yield (
        "images/s and seconds: of training; median and sum over the epochs, mean over the seeds, as each run was made; "
        "runs side by side share the machine."
    )


def _agreement_notes(comparison: "Comparison") -> Iterator[str]:
    teachers = dict.fromkeys(row.agreement_teacher for row in comparison.rows if row.agreement is not None)
    same, divergence = (
        ("share of test images with one top class", "KL(teacher || student)")
        if comparison.score == "acc1"
        else (
            "share of (image, class) decisions that are alike on the test part",
            "mean binary KL(teacher || student)",
        )
    )
    yield f"Agreement of the selected weights with the teacher ({listed(teachers)}): {same}; {divergence}."
    if any(row.cam_similarity is not None for row in comparison.rows):
        yield (
            "Similarity: Pearson's correlation over the positions, mean over the test images: of both class activation "
            "maps of the label (CAM), and of the student's class-agnostic one and the teacher's CAM (CAAM-CAM)."
        )


def _footnotes(comparison: "Comparison") -> dict[str, int]:
    sources = dict.fromkeys(str(row.published["source"]) for row in comparison.rows if row.published)
    return {source: number for number, source in enumerate(sources, start=1)}


def _published(row: ComparedRow, footnotes: dict[str, int]) -> str:
    if not row.published:
        return ""
    return f"{row.published['accuracy']:.2f} ({footnotes[str(row.published['source'])]})"


def _sources(comparison: "Comparison") -> Iterator[str]:
    for source, number in _footnotes(comparison).items():
        yield f"Published ({number}): {source}"


def _described(row: ComparedRow) -> str:
    facts = [
        f"recipe {row.source}",
        "" if row.method is None else f"method {row.method}",
        *row.settings,
        f"taught by {listed(row.teachers)}" if row.teachers else "",
    ]
    return f"{row.name}: {'; '.join(fact for fact in facts if fact)} (runs/{row.folder}-SEED)"


def _made_with(comparison: "Comparison") -> Iterator[str]:
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
    lines = [f"- {item}" for item in items]
    return [f"## {title}", "\n".join(lines)] if lines else []


def _line(text: str) -> str:
    return " ".join(text.split())


__all__ = ["csv_of", "markdown_of"]
