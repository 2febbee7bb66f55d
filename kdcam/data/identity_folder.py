"""Identity folders: a folder of pictures for each person, in which a picture is known by the person and a number."""

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below, files_in, folders_in, nfc
from kdcam.files.paths import exists, expanded, is_folder, shown
from kdcam.settings.messages import did_you_mean, first_few

_DIGITS = re.compile(r"(\d+)")
_BLANKS = re.compile(r"[\s_]+")


def natural_order(name: str) -> tuple[tuple[str, int], ...]:
    """Return what names are sorted by so that 2.pgm comes before 10.pgm."""
    parts = _DIGITS.split(name)
    return tuple(
        (text.lower(), int(digits)) for text, digits in zip(parts[::2], [*parts[1::2], -1], strict=True)
    )


def similar_names(names: Iterable[str], others: Iterable[str]) -> dict[str, str]:
    """Return those of ``names`` that are one of ``others`` but for case, blanks and underscores, each with that one."""
    known = {_folded(other): other for other in others}
    found = {name: known.get(_folded(name)) for name in names}
    return {name: other for name, other in found.items() if other is not None and other != name}


def _folded(name: str) -> str:
    return _BLANKS.sub(" ", name).strip().casefold()


class IdentityFolder:
    """The people below a folder and their pictures; each person's folder is listed once, when it is asked for."""

    def __init__(self, root: Path) -> None:
        """Raise ``DataError`` where ``root`` is no folder."""
        self.root = expanded(root)
        if not is_folder(self.root):
            raise DataError(
                f"root: {self.root} is {'a file' if exists(self.root) else 'not there'}; name a folder that holds a "
                "folder of pictures for each person"
            )
        self._listed: dict[str, Mapping[int, Path]] = {}
        self._left_out: dict[str, int] = {}

    @cached_property
    def people(self) -> tuple[str, ...]:
        """The names of the people, in natural order."""
        return tuple(sorted(self._folders, key=natural_order))

    @cached_property
    def _folders(self) -> Mapping[str, Path]:
        found: dict[str, Path] = {}
        for folder in folders_in(self.root):
            name = nfc(folder.name)
            if name in found:
                raise DataError(
                    f"{shown(self.root)}: holds two folders called {name!r}, written with different Unicode "
                    "characters; put their pictures into one"
                )
            found[name] = folder
        return found

    @cached_property
    def _flat(self) -> Mapping[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for file in files_in(self.root):
            found.setdefault(nfc(file.stem), []).append(file)
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What is left out of the folders asked for so far, in sentences."""
        people = list(self._left_out)
        if not people:
            return ()
        return (
            f"{self.root}: {sum(self._left_out.values())} files have no number, since other files of their folders are "
            f"called as Name_0001 is and they are not; left out of {first_few(map(repr, people))}",
        )

    def has(self, person: str) -> bool:
        """Return whether there is a folder of that very name (in NFC) right below the root."""
        return nfc(person) in self._folders

    def flat_pictures(self, stem: str) -> tuple[Path, ...]:
        """Return the files right below the root that are called ``stem``, whatever their suffix; listed once."""
        return tuple(sorted(self._flat.get(nfc(stem), ())))

    def pictures(self, person: str) -> Mapping[int, Path]:
        """Return the pictures of a person by their numbers.

        A file ``Name_0012.jpg`` in the folder ``Name`` has the number 12, whatever its suffix. Where no file of the
        folder is called so, they are numbered from 1 on, in the natural order of their names. Where only some are, the
        others are left out and `notes` tells of them.

        Raises ``DataError`` where there is no such person or no picture, or two files have one number.
        """
        if person not in self._listed:
            self._listed[person] = self._numbered(person)
        return self._listed[person]

    def picture(self, person: str, number: int) -> Path:
        """Return one picture; ``DataError`` where there is none of that number."""
        pictures = self.pictures(person)
        if number not in pictures:
            raise DataError(
                f"there is no picture {number} of {person!r}; {self.root / person} holds {len(pictures)}, numbered "
                f"{_ranges(pictures)}"
            )
        return pictures[number]

    def _numbered(self, person: str) -> dict[int, Path]:
        if not self.has(person):
            raise DataError(
                f"there is no folder of {person[:60]!r} in {self.root}{did_you_mean(person[:60], self.people)}"
            )
        folder = self._folders[nfc(person)]
        files = sorted(files_below(folder), key=lambda file: natural_order(file.name))
        if not files:
            raise DataError(f"{folder} holds no picture; add some, or leave this person out")
        known = re.compile(re.escape(nfc(person)) + r"_(\d+)")
        numbered: dict[int, Path] = {}
        for file in files:
            match = known.fullmatch(nfc(file.stem))
            if match is None:
                continue
            number = int(match[1])
            if number in numbered:
                raise DataError(f"{numbered[number]} and {file.name} are both picture {number}; remove one")
            numbered[number] = file
        if not numbered:
            return dict(enumerate(files, start=1))
        if len(numbered) < len(files):
            self._left_out[person] = len(files) - len(numbered)
        return numbered


def _ranges(numbers: Iterable[int]) -> str:
    """Return numbers as in 1-10, 12."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in runs[:5]]
    return ", ".join(shown) + (" ..." if len(runs) > len(shown) else "")


__all__ = ["IdentityFolder", "natural_order", "similar_names"]
