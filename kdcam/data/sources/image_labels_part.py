"""Pictures with several labels each, as a CSV or JSON file says; see ``ImageLabelsConfig``."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from kdcam.data.dataset_parts import SourceParts
from kdcam.data.source_configs import ImageLabelsConfig
from kdcam.data.sources.image_labels import LabelledImage, LabelTable, read_label_table
from kdcam.data.sources.part_names import part_of
from kdcam.data.sources.picture_files import ListedFiles, ListedParts, data_folder, load_listed, named_file
from kdcam.errors import DataError
from kdcam.files.folder_listing import nfc
from kdcam.files.paths import is_file, path_below
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import did_you_mean, listed


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
    places = {name: k for k, name in enumerate(names)}
    rows = torch.zeros(len(entries), len(names))
    for row, entry in zip(rows, entries, strict=True):
        for label in entry.labels:
            if label not in places:
                raise DataError(
                    f"{entry.place}: no training picture has the label {label!r}{did_you_mean(label, names)}; the "
                    f"classes: {listed(names[:10])}{' ...' * (len(names) > 10)}. Correct it, give it to a "
                    "training picture, or write a CSV file with a column of 0 and 1 for each class"
                )
            row[places[label]] = 1
    return rows


def load_image_labels(config: ImageLabelsConfig, *, progress: Progress) -> SourceParts:
    """Return the parts of pictures with several labels; see ``list_labelled`` and ``load_listed``."""
    return load_listed(list_labelled(config), config, progress=progress)


__all__ = ["list_labelled", "list_named", "load_image_labels"]
