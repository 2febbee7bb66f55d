"""CSV files: rows with the line that each begins on, columns by name, and what is wrong told with its line."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kdcam.errors import KdcamError
from kdcam.files.paths import shown
from kdcam.files.text_files import TEXT_LIMIT, read_text
from kdcam.settings.messages import listed, short


class CsvRow(NamedTuple):
    """A row in which anything stands."""

    line: int  # where it begins, counted from 1
    cells: list[str]


def read_csv(
    path: Path, *, error: type[KdcamError], place: str | None = None, limit: int = TEXT_LIMIT
) -> Iterator[CsvRow]:
    """Yield the rows of a CSV file or .csv.gz, blank ones left out; see `parse_csv` and `read_text`."""
    yield from parse_csv(
        read_text(path, error=error, place=place, limit=limit), error=error, place=shown(path)
    )


def parse_csv(
    text: str, *, error: type[KdcamError], place: str, skip_blanks: bool = True
) -> Iterator[CsvRow]:
    """Yield the rows of a CSV text, blank ones left out; blanks before a cell, quoted or not, do not count.

    ``skip_blanks``: False keeps them, and a quote after one is a character as any other.

    Raises:
        KdcamError: of the type ``error``, with the line: a quote is never closed or stands within a cell, or a cell is
            longer than `csv.field_size_limit`.
    """
    # newline="": a line break inside quotes stays what it is.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=skip_blanks)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield CsvRow(line, cells)
            line = reader.line_num + 1
    except csv.Error as problem:
        raise error(f"{place}, line {line}: is no CSV ({problem}); mend the quotes") from None


def parse_row(line: str, *, error: type[KdcamError], place: str) -> list[str]:
    """Return the cells of a single line, without blanks around them; ``error`` where it is no row of a CSV file."""
    try:
        (cells,) = csv.reader([line], strict=True, skipinitialspace=True)
    except csv.Error as problem:
        raise error(f"{place}: is no row of a CSV file ({problem}); found {short(line.strip())}") from None
    return [cell.strip() for cell in cells]


def column_names(row: CsvRow, *, error: type[KdcamError], place: str) -> list[str]:
    """Return the names that a file's first row gives to its columns; ``error`` where one stands twice."""
    names = [cell.strip() for cell in row.cells]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise error(f"{place}, line {row.line}: has the column {short(name)} more than once; keep one")
    return names


def by_column(row: CsvRow, columns: Sequence[str], *, error: type[KdcamError], place: str) -> dict[str, str]:
    """Return a row's cells by the names of their columns; ``error`` where it has more or fewer cells than those."""
    if len(row.cells) != len(columns):
        raise error(
            f"{place}, line {row.line}: has {len(row.cells)} cells where the first line has {len(columns)} columns "
            f"({shown_columns(columns)}); put texts that hold commas in quotes"
        )
    return dict(zip(columns, (cell.strip() for cell in row.cells), strict=True))


def shown_columns(columns: Sequence[str]) -> str:
    """Return the first names of columns as a message shows them, and what parts them where commas do not."""
    names = listed(short(name) for name in columns[:10])
    for mark, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(columns) == 1 and mark in columns[0]:
            return f"{names}, parted by {word}, where a CSV file has commas"
    return names


__all__ = ["CsvRow", "by_column", "column_names", "parse_csv", "parse_row", "read_csv", "shown_columns"]
