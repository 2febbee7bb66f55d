"""The usual names of the parts of a data set: which folder, or which split of a table, is which part."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from kdcam.errors import DataError
from kdcam.files.folder_listing import nfc
from kdcam.files.paths import shown

PartName = Literal["train", "validation", "test"]

_PART_WORDS: Mapping[str, PartName] = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
_SETS = ("set", "data", "dataset", "part", "split", "folder", "dir")  # words that change nothing
_SAYING_NOTHING = (
    "sets image images img imgs pic pics picture pictures photo photos jpg jpeg png sample samples example "
    "examples small full all new old copy final clean raw resized cropped the my"
)
_FILLERS = frozenset((*_SETS, *_SAYING_NOTHING.split(), *"abcdefghijklmnopqrstuvwxyz"))
_UNSURE: Mapping[str, PartName] = {"trainval": "train", "holdout": "test", "heldout": "test"}
_FEW = 4  # folders: among more, classes may begin like parts by chance
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


# Which folders are parts, and which are classes: docs/decisions/023.
def part_of(name: str) -> PartName | None:
    """Return the part that a name stands for, in any case and with or without "set" or "data"; None: no part.

    ``train``, ``Training``, ``training_set``, ``TrainSet``, ``test data`` ... are parts; ``train2017`` is none.
    """
    plain = re.sub(r"[^a-z0-9]+", "", nfc(name).lower()) if name.isascii() else ""
    if plain in _PART_WORDS:
        return _PART_WORDS[plain]
    for word in _SETS:
        for rest in (plain.removesuffix(word), plain.removeprefix(word)):
            if rest != plain and rest in _PART_WORDS:
                return _PART_WORDS[rest]
    return None


def looks_like_part(name: str) -> PartName | None:
    """Return the part that a name may stand for: beside its word are only digits and words that say nothing.

    ``train2017``, ``train_images``, ``images-test``, ``trainval`` do; ``train station`` and ``crash test`` do not.
    """
    found = part_of(name)
    if found is not None:
        return found
    words = [word.lower() for word in _WORD.findall(name)] if name.isascii() else []
    parts = [part for word in words if (part := part_of(word) or _UNSURE.get(word)) is not None]
    rest = [word for word in words if part_of(word) is None and word not in _UNSURE]
    if not parts or not all(word.isdigit() or word in _FILLERS for word in rest):
        return None
    return parts[0]


def look_like_parts_together(names: Sequence[str]) -> tuple[str, str] | None:
    """Return two names that tell apart but the word of a part, as ``seg_train`` and ``seg_test``; None: there are none.

    Of up to four names also two that begin like parts, as ``Trainingsdaten`` and ``Testdaten``.
    """
    first: dict[tuple[str, ...], tuple[str, set[PartName]]] = {}
    for name in names:
        words = [word.lower() for word in _WORD.findall(name)] if name.isascii() else []
        parts = {part for word in words if (part := part_of(word)) is not None}
        if not parts:
            continue
        other, of_other = first.setdefault(
            tuple(word for word in words if part_of(word) is None), (name, parts)
        )
        if of_other != parts:
            return other, name
    if len(names) <= _FEW:
        training = [name for name in names if name.lower().startswith("train")]
        held_out = [name for name in names if name.lower().startswith(("test", "val"))]
        if training and held_out:
            return training[0], held_out[0]
    return None


def by_part(folders: Iterable[Path], *, alike: bool = False) -> dict[PartName, Path]:
    """Return the folders that are parts, training first; with ``alike`` also those that only look like one.

    Raises ``DataError`` where two folders are one part.
    """
    found: dict[PartName, Path] = {}
    for folder in folders:
        part = looks_like_part(folder.name) if alike else part_of(folder.name)
        if part is None:
            continue
        if part in found:
            raise DataError(
                f"{shown(folder.parent)}: has both {found[part].name}/ and {folder.name}/ for {part}; keep one, or "
                "move the other away"
            )
        found[part] = folder
    return {part: found[part] for part in get_args(PartName) if part in found}


__all__ = [
    "PartName",
    "by_part",
    "look_like_parts_together",
    "looks_like_part",
    "part_of",
]
