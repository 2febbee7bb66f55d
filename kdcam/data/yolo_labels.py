"""Pictures with YOLO's label files, of which the presence of each class is taken; see ``YoloLabelsConfig``."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdcam.data.config import YoloLabelsConfig
from kdcam.data.part_names import looks_like_part
from kdcam.data.parts import SourceParts
from kdcam.data.picture_files import Listed, ListedParts, data_folder, load_listed, named_file
from kdcam.errors import DataError
from kdcam.files.listing import files_below, folders_in
from kdcam.progress import Progress
from kdcam.wording import listed

NAMES_FILES = ("data.yaml", "dataset.yaml", "config.yaml", "classes.txt")


def list_yolo(config: YoloLabelsConfig) -> ListedParts:
    """Return the pictures below images/, by path, with a row of 0 and 1 for each; see ``YoloLabelsConfig``.

    Raises:
        DataError: images/, all of a part's label files or the names file are missing, or something in them is
            wrong.
    """
    root = data_folder(config.root)
    if not (root / "images").is_dir():
        raise DataError(
            f"{root}: has no images/; kdcam reads images/train*, images/val* and images/test* (or pictures in "
            "images/), with the label files in folders of the same names below labels/"
        )
    names = read_names(_names_file(root, config))
    folders = _part_folders(root / "images")
    if not folders:
        return ListedParts(names, _list_part(root, "", len(names)), None, None)
    if "train" not in folders:
        raise DataError(
            f"{root / 'images'}: has {folders.popitem()[1]}/ but no train folder; add images/train, or put the "
            "pictures right into images/ so that kdcam splits them"
        )
    parts = {part: _list_part(root, folder, len(names)) for part, folder in folders.items()}
    return ListedParts(names, parts["train"], parts.get("validation"), parts.get("test"))


def _part_folders(images: Path) -> dict[str, str]:
    """Return the name of the folder of each part that is there."""
    found: dict[str, str] = {}
    for folder in folders_in(images):
        part = _part_called(folder.name)
        if part in found:
            raise DataError(f"{images}: has both {found[part]}/ and {folder.name}/ for {part}; keep one")
        if part is not None:
            found[part] = folder.name
    return found


def _part_called(name: str) -> str | None:
    """Return the part that a folder's name stands for, or begins with, as train2014minusval does."""
    beginnings = {"train": "train", "val": "validation", "test": "test"}
    begun = (part for beginning, part in beginnings.items() if name.lower().startswith(beginning))
    return looks_like_part(name) or next(begun, None)


def _list_part(root: Path, folder: str, num_classes: int) -> Listed:
    images, labels = root / "images" / folder, root / "labels" / folder
    paths = tuple(files_below(images))
    if not paths:
        raise DataError(f"{images}: holds no picture; add pictures, or remove the folder")
    files = [labels / path.relative_to(images).with_suffix(".txt") for path in paths]
    # COCO's test pictures have none, and without labels all of them would count as empty
    if not any(file.exists() for file in files):
        raise DataError(
            f"{labels}: {'has no label file' if labels.is_dir() else 'is not there'}, so that nothing says what "
            f"{images} shows; add label files named as the pictures ({files[0].name}), or move the pictures away"
        )
    return Listed(paths, torch.stack([_row(file, num_classes) for file in files]))


def _row(file: Path, num_classes: int) -> Tensor:
    row = torch.zeros(num_classes)
    if file.exists():
        for number, line in enumerate(_lines(file), start=1):
            if line.strip():
                row[_class_of(line, num_classes, f"{file}, line {number}")] = 1
    return row


def _class_of(line: str, num_classes: int, place: str) -> int:
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        values = []
    if len(values) != 5 or not all(map(math.isfinite, values)):
        raise DataError(f"{place}: found {line.strip()[:80]!r}; must be five numbers: class cx cy w h")
    if not values[0].is_integer() or not 0 <= values[0] < num_classes:
        raise DataError(
            f"{place}: found class {values[0]:g}; allowed: a whole number from 0 to {num_classes - 1}, for the "
            f"{num_classes} names"
        )
    return int(values[0])


def _names_file(root: Path, config: YoloLabelsConfig) -> Path:
    if config.names is not None:
        return named_file(root, config.names, key="data.names")
    found = [root / name for name in NAMES_FILES if (root / name).is_file()]
    if not found:
        raise DataError(
            f"{root}: holds none of {listed(NAMES_FILES)}, so that the classes have no names; add one, or set "
            "data.names to the file with them"
        )
    return found[0]


def read_names(file: Path) -> tuple[str, ...]:
    """Return the names of the classes: the key ``names`` of a YAML file, or the lines of a text file.

    Raises:
        DataError: the file is missing or broken, or holds no names, two that are the same or numbers with gaps.
    """
    if file.suffix.lower() == ".txt":
        lines = "\n".join(line.strip() for line in _lines(file)).rstrip("\n")
        names: list[Any] = lines.split("\n") if lines else []
    else:
        names = _yaml_names(file)
    texts = [str(name) if isinstance(name, int) and not isinstance(name, bool) else name for name in names]
    for number, name in enumerate(texts):
        if not isinstance(name, str) or not name:
            raise DataError(
                f"{file}: the name of class {number} is {name!r}; must be a text (YAML reads yes, no, on and off "
                "as true and false: put them in quotes)"
            )
        if name in texts[:number]:
            raise DataError(f"{file}: classes {texts.index(name)} and {number} are both called {name!r}")
    if not texts:
        raise DataError(f"{file}: holds no name; write the names of the classes")
    return tuple(texts)


def _yaml_names(file: Path) -> list[Any]:
    import yaml

    try:
        document = yaml.safe_load("\n".join(_lines(file)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "cannot be read"
        raise DataError(f"{file}{line}: is no YAML ({reason})") from None
    names = document.get("names") if isinstance(document, dict) else None
    if isinstance(names, dict) and sorted(map(repr, names)) == sorted(map(repr, range(len(names)))):
        return [names[number] for number in range(len(names))]
    if isinstance(names, list):
        return names
    raise DataError(
        f"{file}: found names: {str(names)[:80]}; must be a list of names, or names under the numbers 0, 1, 2 ..."
    )


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not written in UTF-8 ({error.reason}); save it as UTF-8") from None


def load_yolo(config: YoloLabelsConfig, *, progress: Progress) -> SourceParts:
    """Return the parts of pictures with YOLO's label files; see ``list_yolo`` and ``load_listed``."""
    return load_listed(list_yolo(config), config, progress=progress)


__all__ = ["NAMES_FILES", "list_yolo", "load_yolo", "read_names"]
