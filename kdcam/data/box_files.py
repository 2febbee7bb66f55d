"""Files of objects' boxes: CSV, and Tiny-ImageNet's two kinds of text files; read and checked line by line."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from kdcam.errors import DataError
from kdcam.files.csv_files import by_column, read_csv, shown_columns
from kdcam.files.paths import expanded, is_folder, shown
from kdcam.files.text_files import read_lines
from kdcam.settings.messages import did_you_mean, listed, short
from kdcam.settings.validation import key_and_flag

BoxEnds = Literal["exclusive", "inclusive"]

_TINY_IMAGENET_SIDE = 64  # pixels: its boxes go from 0 to 63, whatever size a copy's pictures have
_CORNERS = ("x0", "y0", "x1", "y1")
_TINY_FILES = "*_boxes.txt"


class BoxLine(NamedTuple):
    """One object's box, as a file gives it."""

    place: str  # file and line, for errors
    picture: str  # its path, or (Tiny-ImageNet) its name alone
    by_name: bool  # whether the picture is known by its name alone
    class_name: str | None
    corners: tuple[float, float, float, float]  # x0, y0, x1, y1 as written
    inclusive: bool  # whether x1 and y1 are the last pixel; else the first one outside
    # side, in pixels, of the square that the corners are measured in; None: the picture's own size
    frame: int | None

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """The box with its end exclusive."""
        x0, y0, x1, y1 = self.corners
        return (x0, y0, x1 + self.inclusive, y1 + self.inclusive)


def read_boxes(
    path: Path, *, box_ends: BoxEnds | None = None, class_column: str | None = None
) -> tuple[BoxLine, ...]:
    """Return the boxes of a file, or of the text files in a folder, in their order.

    A CSV file has the columns path, x0, y0, x1, y1, in pixels of each picture as its file holds it (before a turn
    that EXIF asks for), several rows for several objects; others are not read. A text file is one of Tiny-ImageNet's:
    ``name x0 y0 x1 y1`` (the class is the file's name before ``_boxes``) or ``name class x0 y0 x1 y1``, in 64 x 64
    pixels with inclusive ends. A folder stands for the files ``*_boxes.txt`` in it.

    Args:
        path: of the file or folder.
        box_ends: of a CSV file, what x1 and y1 are: "exclusive" (None, too): the first pixel outside; "inclusive": the
            last inside.
        class_column: of a CSV file, the column of the object's class; none: ``class``, where there is one.

    Raises:
        DataError: the file is missing or of another kind, a column is missing, a line has no four numbers, a box ends
            before it begins, or ``box_ends`` or ``class_column`` are given and it is no CSV file.
    """
    path = expanded(path)
    if path.suffix.lower() == ".csv" and not is_folder(path):
        ends = box_ends or "exclusive"
        return _read(path, lambda file: _csv_lines(file, ends=ends, class_column=class_column))
    of_text = is_folder(path) or path.suffix.lower() == ".txt"
    for key, value in (("box_ends", box_ends), ("class_column", class_column)):
        if of_text and value is not None:
            raise DataError(
                f"{path}: {key_and_flag(key)} = {value} is of CSV files only, and Tiny-ImageNet's files say it "
                "themselves; remove it"
            )
    if is_folder(path):
        files = sorted(path.glob(_TINY_FILES))
        if not files:
            raise DataError(
                f"{path}: holds no {_TINY_FILES}; name a folder of such files, or a CSV file of boxes"
            )
        return tuple(line for file in files for line in _read(file, _tiny_lines))
    if path.suffix.lower() == ".txt":
        return _read(path, _tiny_lines)
    raise DataError(
        f"{path}: is no file of boxes by its name; allowed: a .csv file, a .txt file as Tiny-ImageNet's, or a folder "
        f"of {_TINY_FILES}"
    )


def _read(path: Path, lines: Callable[[Path], Iterator[BoxLine]]) -> tuple[BoxLine, ...]:
    found = tuple(lines(path))
    if not found:
        raise DataError(f"{shown(path)}: holds no box; name a file with a line for each box")
    return found


def _csv_lines(path: Path, *, ends: BoxEnds, class_column: str | None) -> Iterator[BoxLine]:
    rows, place = read_csv(path, error=DataError), shown(path)
    header = next(rows, None)
    columns = () if header is None else tuple(cell.strip() for cell in header.cells)
    of_class = class_column or ("class" if "class" in columns else None)
    wanted = ("path", *_CORNERS, *((of_class,) if of_class else ()))
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise DataError(
            f"{place}: has no column {missing[0]!r}{did_you_mean(missing[0], columns[:100])}; its columns are "
            f"{shown_columns(columns)}, and needed are {listed(wanted)}"
        )
    twice = [name for name in wanted if columns.count(name) > 1]
    if twice:
        raise DataError(
            f"{place}: has {columns.count(twice[0])} columns {twice[0]!r}, and which is meant cannot be told; give "
            "the others other names"
        )
    for row in rows:
        here, cells = f"{place}, line {row.line}", by_column(row, columns, error=DataError, place=place)
        corners = _corners([cells[name] for name in _CORNERS], here, inclusive=ends == "inclusive")
        name = cells[of_class] if of_class else None
        yield BoxLine(here, cells["path"], False, name, corners, ends == "inclusive", None)


def _tiny_lines(path: Path) -> Iterator[BoxLine]:
    from_file = path.name.removesuffix("_boxes.txt") if path.match(_TINY_FILES) else None
    form = "name class x0 y0 x1 y1" if from_file is None else "name x0 y0 x1 y1"
    for number, text in enumerate(read_lines(path, error=DataError), start=1):
        place, words = f"{shown(path)}, line {number}", text.split()
        if not words:
            continue
        if len(words) != len(form.split()):
            raise DataError(
                f"{place}: has {len(words)} words; wanted {form!r} as in Tiny-ImageNet's files, or a CSV file"
            )
        corners = _corners(words[-4:], place, inclusive=True)
        yield BoxLine(place, words[0], True, from_file or words[1], corners, True, _TINY_IMAGENET_SIDE)


def _corners(words: list[str], place: str, *, inclusive: bool) -> tuple[float, float, float, float]:
    try:
        x0, y0, x1, y1 = map(float, words)
    except ValueError:
        raise DataError(
            f"{place}: found {listed(map(short, words))} for x0, y0, x1, y1; write four numbers"
        ) from None
    if not all(math.isfinite(value) for value in (x0, y0, x1, y1)):
        raise DataError(f"{place}: found {x0:g}, {y0:g}, {x1:g}, {y1:g}; a box's corners are finite numbers")
    for low, high, names in ((x0, x1, "x"), (y0, y1, "y")):
        if high < low or (high == low and not inclusive):
            raise DataError(
                f"{place}: {names}1 = {high:g} does not come after {names}0 = {low:g}; write the upper left corner "
                "first" + ("" if high < low else ", or say that ends are inclusive (--box-ends inclusive)")
            )
    return x0, y0, x1, y1


__all__ = ["BoxEnds", "BoxLine", "read_boxes"]
