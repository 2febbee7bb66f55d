"""A CSV or JSON file of pictures and their labels, read into entries; what is wrong in it is named with its line."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.data.source_configs import USUAL_SEPARATOR
from kdcam.errors import DataError
from kdcam.files.csv_files import by_column, column_names, read_csv, shown_columns
from kdcam.files.json_files import read_json_value
from kdcam.files.parsed_values import short
from kdcam.files.paths import shown
from kdcam.settings.messages import listed

_IMAGE, _LABELS, _SPLIT = "image", "labels", "split"
_JSON_FORMS = 'allowed: {"a.jpg": ["cat", "dog"]}, or a list of {"image": "a.jpg", "labels": ["cat", "dog"]}'


class LabelledImage(NamedTuple):
    """A picture in a label file."""

    place: str  # the file and the line, for messages
    image: str
    labels: frozenset[str]
    split: str | None  # as the file writes it; None where the file has no split


class LabelTable(NamedTuple):
    """What a label file says."""

    entries: tuple[LabelledImage, ...]
    columns: tuple[str, ...] | None  # the classes, where the file has a column of 0 and 1 for each


def read_label_table(file: Path, *, separator: str) -> LabelTable:
    """Return the entries of a .csv or .json file; ``separator`` stands between the names in a cell of a CSV file.

    Raises:
        DataError: the file is missing, empty or broken, or something in it is no picture with labels.
    """
    if file.suffix.lower() == ".json":
        table = LabelTable(tuple(_json_entries(file)), None)
    else:
        table = _read_table(file, separator)
    if not table.entries:
        raise DataError(f"{shown(file)}: names no picture; write a line for each picture")
    return table


def _read_table(file: Path, separator: str) -> LabelTable:
    place = shown(file)
    rows = read_csv(file, error=DataError, place=f"data.labels: {place}")
    header = next(rows, None)
    columns = [] if header is None else column_names(header, error=DataError, place=place)
    classes = _class_columns(columns, f"{place}, line {1 if header is None else header.line}")
    if classes is not None and separator != USUAL_SEPARATOR:
        raise DataError(
            f"{place}: has no column {_LABELS!r} whose names data.label_separator = {separator!r} would part; "
            "remove the key, or add the column"
        )
    entries = []
    for row in rows:
        cells = by_column(row, columns, error=DataError, place=place)
        here = f"{place}, line {row.line}"
        if classes is None:
            names = [name.strip() for name in cells[_LABELS].split(separator)]
        else:
            names = [name for name in classes if _flag(cells[name], here, name)]
        entries.append(LabelledImage(here, cells[_IMAGE], frozenset(filter(None, names)), cells.get(_SPLIT)))
    return LabelTable(tuple(entries), classes)


def _class_columns(columns: Sequence[str], place: str) -> tuple[str, ...] | None:
    """Return the class columns, or None where a column of label names stands in their place."""
    classes = tuple(name for name in columns if name not in (_IMAGE, _SPLIT))
    _refuse_misspelt(columns, place)
    if _IMAGE not in columns or not classes or "" in classes:
        raise DataError(
            f"{place}: found the columns {shown_columns(columns)}; allowed, with commas between them: "
            " image,labels or image and a named column of 0 and 1 for each class; and split with either"
        )
    return None if _LABELS in columns else classes


def _refuse_misspelt(names: Iterable[str], place: str) -> None:
    """Raise ``DataError`` for a name that is one of the known ones but for case: it would count for nothing."""
    for name in names:
        if name.lower() in (_IMAGE, _LABELS, _SPLIT) and name != name.lower():
            raise DataError(f"{place}: found {name!r}; write {name.lower()!r}")


def _flag(cell: str, place: str, column: str) -> bool:
    if cell not in ("0", "1", "0.0", "1.0"):
        raise DataError(
            f"{place}: found {short(cell)} in the column {short(column)}; allowed: 0 or 1 (without a column "
            "'labels', every column but 'image' and 'split' is a class)"
        )
    return cell.startswith("1")


def _json_entries(file: Path) -> Iterator[LabelledImage]:
    document = read_json_value(
        file, error=DataError, place=f"data.labels: {shown(file)}", way_out=_JSON_FORMS
    )
    if isinstance(document, dict):
        for image, labels in document.items():
            place = f"{shown(file)}, {short(image)}"
            yield LabelledImage(place, image, _label_set(labels, place), None)
    elif isinstance(document, list):
        for number, item in enumerate(document, start=1):
            yield _listed_entry(item, f"{shown(file)}, entry {number}")
    else:
        raise DataError(f"{shown(file)}: holds a single {type(document).__name__}; {_JSON_FORMS}")


def _listed_entry(item: Any, place: str) -> LabelledImage:
    if not isinstance(item, dict) or _IMAGE not in item or _LABELS not in item:
        found = (
            f"the keys {listed(short(key) for key in list(item)[:10])}"
            if isinstance(item, dict)
            else short(item)
        )
        raise DataError(f"{place}: found {found}; {_JSON_FORMS}, with the key split if need be")
    _refuse_misspelt(item, place)
    image, split = item[_IMAGE], item.get(_SPLIT)
    if not isinstance(image, str) or not (split is None or isinstance(split, str)):
        raise DataError(f"{place}: found image {short(image)} and split {short(split)}; both must be texts")
    return LabelledImage(place, image, _label_set(item[_LABELS], place), split)


def _label_set(labels: Any, place: str) -> frozenset[str]:
    if not isinstance(labels, list) or not all(isinstance(name, str) and name.strip() for name in labels):
        raise DataError(
            f'{place}: found {short(labels)} as labels; must be a list of names, as in ["cat"] or []'
        )
    return frozenset(name.strip() for name in labels)


__all__ = ["LabelTable", "LabelledImage", "read_label_table"]
