"""A CSV or JSON file of pictures and their labels, read into entries; what is wrong in it is named with its line."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.data.config import USUAL_SEPARATOR
from kdcam.errors import DataError
from kdcam.wording import listed

_IMAGE, _LABELS, _SPLIT = "image", "labels", "split"
_JSON_FORMS = 'allowed: {"a.jpg": ["cat", "dog"]}, or a list of {"image": "a.jpg", "labels": ["cat", "dog"]}'


class Entry(NamedTuple):
    """A picture in a label file."""

    place: str  # the file and the line, for messages
    image: str
    labels: frozenset[str]
    split: str | None  # as the file writes it; None where the file has no split


class LabelTable(NamedTuple):
    """What a label file says."""

    entries: tuple[Entry, ...]
    columns: tuple[str, ...] | None  # the classes, where the file has a column of 0 and 1 for each


def read_label_table(file: Path, *, separator: str) -> LabelTable:
    """Return the entries of a .csv or .json file; ``separator`` stands between the names in a cell of a CSV file.

    Raises:
        DataError: the file is missing, empty or broken, or something in it is no picture with labels.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"data.labels: {file} cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not written in UTF-8 ({error.reason}); save it as UTF-8") from None
    if file.suffix.lower() == ".json":
        table = LabelTable(tuple(_json_entries(text, file)), None)
    else:
        table = _read_csv(text, file, separator)
    if not table.entries:
        raise DataError(f"{file}: names no picture; write a line for each picture")
    return table


def _read_csv(text: str, file: Path, separator: str) -> LabelTable:
    lines = _csv_lines(text, file)
    _, header = next(lines, (0, []))
    columns = [name.strip() for name in header]
    classes = _class_columns(columns, file)
    if classes is not None and separator != USUAL_SEPARATOR:
        raise DataError(
            f"{file}: has no column {_LABELS!r} whose names data.label_separator = {separator!r} would part; "
            "remove the key, or add the column"
        )
    entries = []
    for line, cells in lines:
        place = f"{file}, line {line}"
        if len(cells) != len(columns):
            raise DataError(
                f"{place}: has {len(cells)} cells where the first line has {len(columns)} columns "
                f"({listed(columns[:10])}); put texts that hold commas in quotes"
            )
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
        if classes is None:
            names = [name.strip() for name in row[_LABELS].split(separator)]
        else:
            names = [name for name in classes if _flag(row[name], place, name)]
        entries.append(Entry(place, row[_IMAGE], frozenset(filter(None, names)), row.get(_SPLIT)))
    return LabelTable(tuple(entries), classes)


def _csv_lines(text: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: is no CSV ({error})") from None


def _class_columns(columns: Sequence[str], file: Path) -> tuple[str, ...] | None:
    """Return the class columns, or None where a column of label names stands in their place."""
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise DataError(f"{file}, line 1: has the column {repeated[0]!r} more than once; keep one")
    classes = tuple(name for name in columns if name not in (_IMAGE, _SPLIT))
    _refuse_misspelt(columns, f"{file}, line 1")
    if _IMAGE not in columns or not classes or "" in classes:
        raise DataError(
            f"{file}, line 1: found the columns {listed(map(repr, columns[:10]))}; allowed, with commas between "
            "them: image,labels or image and a named column of 0 and 1 for each class; and split with either"
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
            f"{place}: found {cell!r} in the column {column!r}; allowed: 0 or 1 (without a column 'labels', every "
            "column but 'image' and 'split' is a class)"
        )
    return cell.startswith("1")


def _json_entries(text: str, file: Path) -> Iterator[Entry]:
    document = _parsed(text, file)
    if isinstance(document, dict):
        for image, labels in document.items():
            place = f"{file}, {image!r}"
            yield Entry(place, image, _label_set(labels, place), None)
    elif isinstance(document, list):
        for number, item in enumerate(document, start=1):
            yield _listed_entry(item, f"{file}, entry {number}")
    else:
        raise DataError(f"{file}: holds a single {type(document).__name__}; {_JSON_FORMS}")


def _parsed(text: str, file: Path) -> Any:
    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):  # json itself would keep the last one
            keys = [key for key, _ in pairs]
            repeated = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"{file}: {repeated!r} stands twice in one object; keep one")
        return found

    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file}, line {error.lineno}: is no JSON ({error.msg} at column {error.colno}); {_JSON_FORMS}"
        ) from None


def _listed_entry(item: Any, place: str) -> Entry:
    if not isinstance(item, dict) or _IMAGE not in item or _LABELS not in item:
        found = f"the keys {listed(map(repr, item))}" if isinstance(item, dict) else repr(item)
        raise DataError(f"{place}: found {found}; {_JSON_FORMS}, with the key split if need be")
    _refuse_misspelt(item, place)
    image, split = item[_IMAGE], item.get(_SPLIT)
    if not isinstance(image, str) or not (split is None or isinstance(split, str)):
        raise DataError(f"{place}: found image {image!r} and split {split!r}; both must be texts")
    return Entry(place, image, _label_set(item[_LABELS], place), split)


def _label_set(labels: Any, place: str) -> frozenset[str]:
    if not isinstance(labels, list) or not all(isinstance(name, str) and name.strip() for name in labels):
        raise DataError(f'{place}: found {labels!r} as labels; must be a list of names, as in ["cat"] or []')
    return frozenset(name.strip() for name in labels)


__all__ = ["Entry", "LabelTable", "read_label_table"]
