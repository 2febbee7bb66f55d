"""Sections of tables, notes, facts and pictures as plain values, and how numbers stand in them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kdcam.settings.messages import listed

MISSING = "-"
"""Stands where there is no number."""

CellsByHead = dict[tuple[str, ...], str]
"""A column of a table: the words at a row's head -> its cell."""


class Note(NamedTuple):
    """A sentence."""

    text: str
    warning: bool = False  # it must not be overlooked


class Tile(NamedTuple):
    """One number that matters."""

    label: str
    value: str
    remark: str = ""


class Tiles(NamedTuple):
    """Numbers that matter, side by side."""

    tiles: Sequence[Tile]


class Table(NamedTuple):
    """Rows of text under column names; the first columns are aligned to the left, the others to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    left: int = 1  # columns from the first on that are aligned to the left


class Facts(NamedTuple):
    """Names with what they stand for."""

    pairs: Sequence[tuple[str, str]]
    title: str = ""


class FoldedText(NamedTuple):
    """A long text that is folded away until it is asked for."""

    summary: str
    text: str


class LegendLine(NamedTuple):
    """What a line in a picture stands for."""

    name: str
    colour: int  # of the page's line colours
    dash: str  # as SVG's stroke-dasharray; "none": a whole line


class CaptionedPicture(NamedTuple):
    """A picture with its caption; without ``dark`` it is shown on white in either theme."""

    png: bytes
    alt: str  # what is to be seen, for those who do not see it
    caption: str
    dark: bytes | None = None  # the same for light text on a dark page
    width: int | None = None  # as shown, in CSS pixels; None: a pixel a pixel
    legend: Sequence[LegendLine] = ()
    source: Path | None = None  # the file that it is; None: it was drawn for the report


Block = Note | Tiles | Table | Facts | FoldedText | CaptionedPicture


class Section(NamedTuple):
    """A titled part of a report."""

    title: str
    blocks: Sequence[Block]


def share_text(value: float | None) -> str:
    """Return a share as a percentage."""
    return MISSING if value is None else f"{value:.2%}"


def number_text(value: float | None, digits: int) -> str:
    """Return a number with so many decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def side_by_side(columns: Sequence[CellsByHead]) -> list[tuple[str, ...]]:
    """Return rows of a table: the words at a row's head, then a cell a column; columns may lack rows."""
    heads = dict.fromkeys(head for column in columns for head in column)
    return [(*head, *(column.get(head, MISSING) for column in columns)) for head in heads]


def notes_on_runs(texts: Iterable[tuple[str, str]], *, runs: int) -> Iterator[Note]:
    """Yield what is to be said of runs: once where all have the same, else with the names of those that have it.

    Args:
        texts: pairs of a run's name and what is to be said of it.
        runs: how many there are, also those of which nothing is to be said.
    """
    by_text: dict[str, list[str]] = {}
    for run, text in texts:
        by_text.setdefault(text, []).append(run)
    for text, names in by_text.items():
        yield Note(text if len(names) == runs else f"{listed(names)}: {text}")


__all__ = [
    "MISSING",
    "Block",
    "CaptionedPicture",
    "CellsByHead",
    "Facts",
    "FoldedText",
    "LegendLine",
    "Note",
    "Section",
    "Table",
    "Tile",
    "Tiles",
    "notes_on_runs",
    "number_text",
    "share_text",
    "side_by_side",
]
