"""What a report is made of: sections of tables, notes, facts and pictures, as plain values."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


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


__all__ = [
    "Block",
    "CaptionedPicture",
    "Facts",
    "FoldedText",
    "LegendLine",
    "Note",
    "Section",
    "Table",
    "Tile",
    "Tiles",
]
