"""Pictures with YOLO's label files, of which the presence of each class is taken; see ``YoloLabelsConfig``."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdcam.data.dataset_parts import SourceParts
from kdcam.data.source_configs import YoloLabelsConfig
from kdcam.data.sources.part_names import looks_like_part
from kdcam.data.sources.picture_files import ListedFiles, ListedParts, data_folder, load_listed, named_file
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below, folders_in
from kdcam.files.paths import exists, is_file, is_folder, shown
from kdcam.files.text_files import read_lines
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import listed, short

_NAMES_FILES = ("data.yaml", "dataset.yaml", "config.yaml", "classes.txt")
_FEWEST_NUMBERS = 5  # of a line


def list_yolo(config: YoloLabelsConfig) -> ListedParts:
    """Return the pictures of each part, by path, with a row of 0 and 1 for each; see ``YoloLabelsConfig``.

    Raises:
        DataError: the pictures' folders, all of a part's label files or the names file are missing, or something in
            them is wrong.
    """
    root = data_folder(config.root)
    folders = _folders(root)
    names = read_names(_names_file(root, config))
    parts = {part: _list_part(images, labels, len(names)) for part, (images, labels) in folders.items()}
    return ListedParts(names, parts["train"], parts.get("validation"), parts.get("test"))


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Return the folders of pictures and of label files of each part; of train alone where pictures lie in images/."""
    of_images, of_parts = root / "images", _part_folders(root, holding="images")
    if is_folder(of_images) and of_parts:
        raise DataError(
            f"{root}: has both images/ and {next(iter(of_parts.values()))}/images/, and which is meant cannot be told; "
            "keep one layout"
        )
    if is_folder(of_images):
        names = _part_folders(of_images)
        if not names:
            return {"train": (of_images, root / "labels")}
        found = {part: (of_images / name, root / "labels" / name) for part, name in names.items()}
    else:
        found = {part: (root / name / "images", root / name / "labels") for part, name in of_parts.items()}
        of_images = root
    if not found:
        raise DataError(
            f"{root}: has no images/; kdcam reads images/train*, images/val* and images/test* (or pictures in "
            "images/), with the label files in folders of the same names below labels/, and train*/images with "
            "train*/labels"
        )
    if "train" not in found:
        folder = next(iter(found.values()))[0].relative_to(of_images).parts[0]
        raise DataError(
            f"{of_images}: has {folder}/ but no train folder; add one called train, or put the pictures right into "
            "images/ so that kdcam splits them"
        )
    return found


def _part_folders(folder: Path, *, holding: str = "") -> dict[str, str]:
    """Return the name of the folder of each part that is there and has a folder ``holding``."""
    found: dict[str, str] = {}
    for inner in folders_in(folder):
        part = _part_called(inner.name)
        if part is None or not is_folder(inner / holding):
            continue
        if part in found:
            raise DataError(f"{folder}: has both {found[part]}/ and {inner.name}/ for {part}; keep one")
        found[part] = inner.name
    return found


def _part_called(name: str) -> str | None:
    """Return the part that a folder's name stands for, or begins with, as train2014minusval does."""
    beginnings = {"train": "train", "val": "validation", "test": "test"}
    begun = (part for beginning, part in beginnings.items() if name.lower().startswith(beginning))
    return looks_like_part(name) or next(begun, None)


def _list_part(images: Path, labels: Path, num_classes: int) -> ListedFiles:
    paths = tuple(files_below(images))
    if not paths:
        raise DataError(f"{images}: holds no picture; add pictures, or remove the folder")
    files = [labels / path.relative_to(images).with_suffix(".txt") for path in paths]
    # COCO's test pictures have none, and without labels all of them would count as empty
    if not any(exists(file) for file in files):
        raise DataError(
            f"{labels}: {'has no label file' if is_folder(labels) else 'is not there'}, so that nothing says what "
            f"{images} shows; add label files named as the pictures ({files[0].name}), or move the pictures away"
        )
    return ListedFiles(paths, class_rows(files, num_classes))


def class_rows(files: Sequence[Path], num_classes: int) -> Tensor:
    """Return a row of 0 and 1 for each label file (N, K): which classes it names; of one that is missing, zeros.

    Raises ``DataError`` for a line that is none of YOLO's, or a class that has no name.
    """
    return torch.stack([_row(file, num_classes) for file in files])


def _row(file: Path, num_classes: int) -> Tensor:
    row = torch.zeros(num_classes)
    if exists(file):
        for number, line in enumerate(read_lines(file, error=DataError), start=1):
            if line.strip():
                row[_class_of(line, num_classes, f"{shown(file)}, line {number}")] = 1
    return row


def _class_of(line: str, num_classes: int, place: str) -> int:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    # A box, alone or with a confidence or the points of a pose; the corners of a turned box; a polygon.
    if len(values) < _FEWEST_NUMBERS or not all(map(math.isfinite, values)):
        raise DataError(
            f"{place}: found {line.strip()[:80]!r}; must be five numbers or more: class cx cy w h, or a class and the "
            "points of a polygon"
        )
    if not values[0].is_integer() or not 0 <= values[0] < num_classes:
        raise DataError(
            f"{place}: found class {values[0]:g}; allowed: a whole number from 0 to {num_classes - 1}, for the "
            f"{num_classes} names"
        )
    return int(values[0])


def _names_file(root: Path, config: YoloLabelsConfig) -> Path:
    if config.names is not None:
        return named_file(root, config.names, key="data.names")
    found = [root / name for name in _NAMES_FILES if is_file(root / name)]
    if not found:
        raise DataError(
            f"{root}: holds none of {listed(_NAMES_FILES)}, so that the classes have no names; add one, or set "
            "data.names to the file with them"
        )
    return found[0]


def read_names(file: Path) -> tuple[str, ...]:
    """Return the names of the classes: the key ``names`` of a YAML file, or the lines of a text file.

    Raises:
        DataError: the file is missing or broken, or holds no names, two that are the same or numbers with gaps.
    """
    if file.suffix.lower() == ".txt":
        names: list[Any] = [line.strip() for line in read_lines(file, error=DataError)]
        while names and not names[-1]:
            names.pop()
    else:
        names = _yaml_names(file)
    numbers: dict[str, int] = {}
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name:
            raise DataError(f"{shown(file)}: the name of class {number} is {short(name)}; must be a text")
        if name in numbers:
            raise DataError(
                f"{shown(file)}: classes {numbers[name]} and {number} are both called {short(name)}"
            )
        numbers[name] = number
    if not names:
        raise DataError(f"{shown(file)}: holds no name; write the names of the classes")
    return tuple(names)


def _yaml_names(file: Path) -> list[Any]:
    from kdcam.files.yaml_files import read_yaml  # here: other data would wait for PyYAML

    document = read_yaml(file, error=DataError)
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict) and names.keys() == {str(number) for number in range(len(names))}:
        return [names[str(number)] for number in range(len(names))]
    if isinstance(names, list):
        return names
    raise DataError(
        f"{shown(file)}: found names: {short(names)}; must be a list of names, or names "
        "under the numbers 0, 1, 2 ..."
    )


def load_yolo(config: YoloLabelsConfig, *, progress: Progress) -> SourceParts:
    """Return the parts of pictures with YOLO's label files; see ``list_yolo`` and ``load_listed``."""
    return load_listed(list_yolo(config), config, progress=progress)


__all__ = ["class_rows", "list_yolo", "load_yolo", "read_names"]
