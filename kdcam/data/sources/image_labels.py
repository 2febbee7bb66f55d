"""Pictures with several labels each, as a CSV or JSON file tells; what is wrong in it is named with its line."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcam.data.dataset_parts import SourceParts
from kdcam.data.source_configs import USUAL_SEPARATOR, ImageLabelsConfig
from kdcam.data.sources.part_names import part_of
from kdcam.data.sources.picture_files import ListedFiles, ListedParts, data_folder, load_listed, named_file
from kdcam.errors import DataError
from kdcam.files.csv_files import by_column, column_names, read_csv, shown_columns
from kdcam.files.folder_listing import nfc
from kdcam.files.json_files import read_json_value
from kdcam.files.paths import is_file, path_below, shown
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import did_you_mean, listed, short

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


def list_labelled(config: ImageLabelsConfig) -> ListedParts:
    """Return the pictures that a label file names, in its order, with a row of 0 and 1 for each.

    The classes are the file's columns, or else the names that training pictures have, sorted.

    Raises:
        DataError: see ``list_named``; a picture is missing.
    """
    listing, places = _list_named(config)
    for path, place in places.items():
        if not is_file(path):
            raise DataError(
                f"{place}: there is no picture {str(path)[:200]!r}; name pictures from data.root = {config.root} on"
            )
    return listing


def list_named(config: ImageLabelsConfig) -> ListedParts:
    """Return what a label file names, whether the pictures are there or not.

    Raises:
        DataError: see ``read_label_table``; a picture is named twice, a split or a label is unknown, no picture is for
            training, or none of those has a label.
    """
    return _list_named(config)[0]


def _list_named(config: ImageLabelsConfig) -> tuple[ListedParts, dict[Path, str]]:
    """Return what a label file names, and where in it each picture is named."""
    root = data_folder(config.root)
    file = named_file(root, config.labels, key="data.labels")
    table = _in_nfc(read_label_table(file, separator=config.label_separator), file)
    parts = _by_part(table.entries)
    if "train" not in parts:
        raise DataError(f"{file}: no picture has the split 'train'; give it to those to train on")
    names = table.columns or tuple(sorted({name for entry in parts["train"] for name in entry.labels}))
    if not names:
        raise DataError(
            f"{file}: no training image has a label, so that there is no class; write their labels"
        )
    paths = _paths(root, table.entries)
    rows = {
        part: ListedFiles(tuple(paths[entry.place] for entry in entries), _rows(entries, names))
        for part, entries in parts.items()
    }
    listing = ListedParts(names, rows["train"], rows.get("validation"), rows.get("test"))
    return listing, {path: place for place, path in paths.items()}


def _in_nfc(table: LabelTable, file: Path) -> LabelTable:
    """Return a table whose names of classes are in NFC; ``DataError`` where two columns are one then."""
    columns = None if table.columns is None else tuple(map(nfc, table.columns))
    for name in columns or ():
        if columns and columns.count(name) > 1:
            raise DataError(
                f"{file}, line 1: has two columns called {name!r}, written with different Unicode characters; keep one"
            )
    entries = tuple(entry._replace(labels=frozenset(map(nfc, entry.labels))) for entry in table.entries)
    return LabelTable(entries, columns)


def _by_part(entries: Iterable[LabelledImage]) -> dict[str, list[LabelledImage]]:
    parts: dict[str, list[LabelledImage]] = {}
    has_splits = any(entry.split is not None for entry in entries)
    for entry in entries:
        split = entry.split if has_splits else "train"
        part = None if split is None else part_of(split)
        if part is None:
            raise DataError(
                f"{entry.place}: found split {split!r}; allowed: train, validation (val, valid, dev), test"
            )
        parts.setdefault(part, []).append(entry)
    return parts


def _paths(root: Path, entries: Iterable[LabelledImage]) -> dict[str, Path]:
    """Return the path of each entry's picture, by the entry's place."""
    paths: dict[str, Path] = {}
    first: dict[Path, str] = {}
    for entry in entries:
        if not entry.image:
            raise DataError(f"{entry.place}: names no picture; write its path, from data.root = {root} on")
        path = path_below(root, entry.image)
        if path is None:
            raise DataError(
                f"{entry.place}: {entry.image[:200]!r} leads out of data.root = {root}; name pictures from that "
                "folder on, or set data.root to a folder that holds them all"
            )
        if path in first:
            raise DataError(f"{entry.place}: names the picture {entry.image!r} again, after {first[path]}")
        first[path] = entry.place
        paths[entry.place] = path
    return paths


def _rows(entries: Sequence[LabelledImage], names: Sequence[str]) -> Tensor:
    column = {name: k for k, name in enumerate(names)}
    rows = torch.zeros(len(entries), len(names))
    for row, entry in zip(rows, entries, strict=True):
        for label in entry.labels:
            if label not in column:
                raise DataError(
                    f"{entry.place}: no training picture has the label {label!r}{did_you_mean(label, names)}; the "
                    f"classes: {listed(names[:10])}{' ...' * (len(names) > 10)}. Correct it, give it to a "
                    "training picture, or write a CSV file with a column of 0 and 1 for each class"
                )
            row[column[label]] = 1
    return rows


def load_image_labels(config: ImageLabelsConfig, *, progress: Progress) -> SourceParts:
    """Return the parts of pictures with several labels; see ``list_labelled`` and ``load_listed``."""
    return load_listed(list_labelled(config), config, progress=progress)


__all__ = [
    "LabelTable",
    "LabelledImage",
    "list_labelled",
    "list_named",
    "load_image_labels",
    "read_label_table",
]
