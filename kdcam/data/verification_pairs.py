"""Pairs of face pictures of one person or of two, as three kinds of files name them, and the folds of a test."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from kdcam.data.identity_folder import IdentityFolder, natural_order
from kdcam.errors import DataError
from kdcam.files.csv_files import parse_row
from kdcam.files.paths import exists, expanded, is_file, is_folder, path_below, resolved, shown
from kdcam.files.text_files import read_lines
from kdcam.settings.messages import listed, reason_text

Numbers = NDArray[numpy.int64]
Flags = NDArray[numpy.bool_]

USUAL_FOLDS = 10  # LFW's
_NUMBER = re.compile(r"[0-9]{1,9}")
_STEM = re.compile(rf"(.+)_({_NUMBER.pattern})")
_LIST = re.compile(r"(.*_)?(same|diff)")
_COLUMNS = ("first", "second", "same")
_SAME = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True)
class Pairs:
    """P pairs of D distinct pictures."""

    file: Path
    root: Path
    paths: tuple[Path, ...]  # D, each once, in the order in which the pairs name them
    people: tuple[str, ...]  # all names that are known, sorted
    unnamed: int  # pictures of which nothing tells who is on them
    first: Numbers  # (P,) positions in paths
    second: Numbers  # (P,)
    same: Flags  # (P,) whether both show one person
    folds: Numbers | None  # (P,) from 0 on, as the file tells; None: it tells none
    notes: tuple[str, ...] = ()  # what is odd about them, in sentences

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.same)

    def digest(self, folds: Numbers) -> str:
        """Return the SHA-256 of the pairs and their ``folds`` (P,), by the bytes of the pictures' files.

        Raises ``DataError`` where a file cannot be read.
        """
        digest = hashlib.sha256()
        files = [_file_digest(path) for path in self.paths]
        for one, other, same, fold in zip(self.first, self.second, self.same, folds, strict=True):
            digest.update(f"{files[one]} {files[other]} {int(same)} {fold}\n".encode())
        return digest.hexdigest()

    def summary(self, folds: Numbers) -> dict[str, Any]:
        """Return what a record says of the pairs; all pictures are read for it, see `digest`."""
        return {
            "file": _readable(self.file),
            "root": _readable(self.root),
            "pairs": len(self),
            "of_one_person": int(self.same.sum()),
            "of_two": int((~self.same).sum()),
            "pictures": len(self.paths),
            "people": len(self.people),
            "folds": int(folds.max()) + 1,
            "sha256": self.digest(folds),
        }


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason_text(error)})") from None


def _readable(path: Path) -> str:
    """Return a path as text that has a form in UTF-8, whatever bytes the file system holds."""
    return str(path).encode(errors="backslashreplace").decode()


class _PairLine(NamedTuple):
    """One pair, as a file gives it."""

    place: str  # file and line, for errors
    first: Path
    second: Path
    same: bool
    people: tuple[str | None, str | None]  # who is on each; None: the file and the folders do not tell
    fold: str | None = None  # None: the file tells no folds


def read_pairs(path: str | Path, root: str | Path) -> Pairs:
    """Return the pairs that a file names, of the pictures below ``root``.

    Args:
        path: A file in the format of LFW's pairs.txt; a CSV file (first, second, same, and maybe fold); one of
            LFWcrop's lists (01_test_same.txt, with 01_test_diff.txt beside it) or a folder of them, one pair of lists a
            fold. See `kdcam.data.verification_pairs`.
        root: A folder with a folder of pictures for each person, see `kdcam.data.identity_folder.IdentityFolder`.

    Raises:
        DataError: A file is missing or a line wrong, a person or picture is not there, a pair is of one picture with
            itself or told in two ways, or all pairs are of one kind. Each names file and line.
    """
    file, folder = expanded(path), IdentityFolder(Path(root))
    if is_list(file):
        lines = _read_two_lists(file, folder)
    elif file.suffix.lower() == ".csv":
        lines = _read_csv_pairs(file, folder)
    else:
        lines = _read_lfw(file, folder)
    for same, words in ((True, "one person"), (False, "two people")):
        if not any(line.same is same for line in lines):
            raise DataError(f"{file}: of its {len(lines)} pairs none is of {words}; both kinds are needed")
    pairs = _numbered(file, folder.root, lines)
    return replace(pairs, notes=(*folder.notes, *_repeats(pairs, lines)))


def _numbered(file: Path, root: Path, lines: Sequence[_PairLine]) -> Pairs:
    real = {path: resolved(path) for line in lines for path in (line.first, line.second)}
    named: dict[Path, Path] = {}  # by the file itself, which several paths may lead to: the first of them
    people: dict[Path, str | None] = {}
    for line in lines:
        for path, person in zip((line.first, line.second), line.people, strict=True):
            named.setdefault(real[path], path)
            people[path] = person
        if real[line.first] == real[line.second]:
            raise DataError(f"{line.place}: is a picture and itself ({line.first}); name two pictures")
    numbers = {file: index for index, file in enumerate(named)}
    position = {path: numbers[file] for path, file in real.items()}
    unnamed = {real[path] for path, name in people.items() if name is None}
    names = list(dict.fromkeys(line.fold for line in lines))
    folds = None
    if names != [None]:
        number = {name: index for index, name in enumerate(names)}
        folds = numpy.array([number[line.fold] for line in lines], dtype=numpy.int64)
    return Pairs(
        file,
        root,
        tuple(named.values()),
        tuple(sorted({name for name in people.values() if name is not None})),
        len(unnamed),
        numpy.array([position[line.first] for line in lines], dtype=numpy.int64),
        numpy.array([position[line.second] for line in lines], dtype=numpy.int64),
        numpy.array([line.same for line in lines]),
        folds,
    )


def _repeats(pairs: Pairs, lines: Sequence[_PairLine]) -> Iterator[str]:
    """Yield a sentence where pairs come again, in either order; ``DataError`` where such two are told differently."""
    before: dict[tuple[int, int], _PairLine] = {}
    again = 0
    for one, other, line in zip(pairs.first.tolist(), pairs.second.tolist(), lines, strict=True):
        earlier = before.setdefault((min(one, other), max(one, other)), line)
        again += earlier is not line
        if earlier.same is not line.same:
            raise DataError(
                f"{line.place}: {line.first} and {line.second} show {_who(line.same)} here, and {_who(earlier.same)} "
                f"in {earlier.place}; remove one of the lines"
            )
    if again:
        yield f"{pairs.file}: {again} of {len(lines)} pairs stand there before, in either order; they count again"


def _who(same: bool) -> str:
    return "one person" if same else "two people"


def contiguous_folds(pairs: int, folds: int) -> Numbers:
    """Return the fold (P,) of each pair, blocks in the pairs' order, as scikit-learn's KFold(folds) makes them.

    The first ``pairs % folds`` blocks hold one pair more. ``folds`` is 2 or more, at most ``pairs``.
    """
    if not 2 <= folds <= pairs:
        raise ValueError(f"{folds} folds of {pairs} pairs; wanted: 2 or more, at most one for each pair")
    sizes = [len(block) for block in numpy.array_split(numpy.arange(pairs), folds)]
    return numpy.repeat(numpy.arange(folds), sizes)


def folds_of(pairs: Pairs, folds: int | None) -> Numbers:
    """Return the fold (P,) of each pair: the file's own, or with a number that many contiguous blocks of its order.

    Without either there are 10. Raises ``DataError`` where there are fewer pairs than folds, a single fold, or a fold
    of pairs of one kind.
    """
    if folds is None and pairs.folds is not None:
        found = pairs.folds
        if int(found.max()) == 0:
            raise DataError(f"{pairs.file}: all pairs are in one fold; ask for several (--folds)")
    else:
        wanted = folds or USUAL_FOLDS
        if wanted > len(pairs):
            raise DataError(
                f"{pairs.file}: {len(pairs)} pairs make no {wanted} folds; ask for fewer (--folds)"
            )
        found = contiguous_folds(len(pairs), wanted)
    for fold in range(int(found.max()) + 1):
        kinds = pairs.same[found == fold]
        if kinds.all() or not kinds.any():
            raise DataError(
                f"{pairs.file}: fold {fold + 1} of {int(found.max()) + 1} holds {len(kinds)} pairs, all of "
                f"{'one person' if kinds.all() else 'two people'}; mix the two kinds, ask for fewer folds (--folds), "
                "or give the folds in the file"
            )
    return found


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a text file that are not blank, each with its number; ``DataError`` where it has none."""
    text = read_lines(path, error=DataError)
    lines = [(number, line) for number, line in enumerate(text, start=1) if line.strip()]
    if not lines:
        raise DataError(f"{shown(path)}: is empty; name a file of pairs")
    return lines


def _in_turn(pairs: Sequence[_PairLine]) -> list[_PairLine]:
    """Return pairs of one person and pairs of two in turn, each kind in its order; what one has more comes last."""
    genuine, others = ([pair for pair in pairs if pair.same is same] for same in (True, False))
    both = list(chain.from_iterable(zip(genuine, others, strict=False)))
    shorter = min(len(genuine), len(others))
    return both + genuine[shorter:] + others[shorter:]


def _read_lfw(path: Path, folder: IdentityFolder) -> list[_PairLine]:
    """Return the pairs of a file in the format of LFW's pairs.txt.

    Its first line is ``folds n``: of each fold n lines ``Name i j`` (two pictures of one person) and n lines
    ``Name i Other j`` follow. A first line ``n`` (LFW's pairsDevTest.txt) stands for a single block, whose pairs of the
    two kinds come in turn here, so that parts of them hold both. Columns are parted by tabs, or by blanks.

    Raises ``DataError`` for a line of another form, a person or picture that is not there, or other counts than the
    first line's.
    """
    (_, header), *lines = numbered_lines(path)
    counts = header.split()
    if len(counts) > 2 or not all(map(_NUMBER.fullmatch, counts)):
        raise DataError(
            f"{path}: begins with {header.strip()[:60]!r}; allowed: a line with the number of folds and of pairs of "
            "each kind in a fold, as in LFW's pairs.txt"
        )
    folds, each = (1, int(counts[0])) if len(counts) == 1 else (int(counts[0]), int(counts[1]))
    if len(lines) != 2 * folds * each:
        raise DataError(
            f"{path}: its first line says {folds} x 2 x {each} pairs, {2 * folds * each} in all, and {len(lines)} "
            "lines follow; restore the file or correct its first line"
        )
    found = [_lfw_pair(f"{path}, line {number}", line, folder) for number, line in lines]
    if folds == 1:
        return _in_turn(found)
    numbered = [pair._replace(fold=str(index // (2 * each))) for index, pair in enumerate(found)]
    for fold in range(folds):
        genuine = sum(pair.same for pair in numbered[2 * each * fold : 2 * each * (fold + 1)])
        if genuine != each:
            raise DataError(
                f"{path}: fold {fold + 1} has {genuine} pairs of one person and {2 * each - genuine} of two; its first "
                f"line says {each} of each"
            )
    return numbered


def _lfw_pair(place: str, line: str, folder: IdentityFolder) -> _PairLine:
    line = line.rstrip()
    cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
    numbers = cells[1:] if len(cells) == 3 else cells[1::2]
    if len(cells) not in (3, 4) or not all(map(_NUMBER.fullmatch, numbers)):
        raise DataError(f"{place}: found {line.strip()[:80]!r}; allowed: Name i j, or Name i Other j")
    people = (cells[0], cells[0] if len(cells) == 3 else cells[2])
    if len(cells) == 4 and people[0] == people[1]:
        raise DataError(
            f"{place}: names {people[0]!r} twice; two pictures of one person are written Name i j"
        )
    try:
        first, second = (
            folder.picture(name, int(number)) for name, number in zip(people, numbers, strict=True)
        )
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    return _PairLine(place, first, second, len(cells) == 3, people)


def is_list(path: Path) -> bool:
    """Return whether ``path`` is a folder of lists, or one list of a fold by its name."""
    return is_folder(path) or (path.suffix == ".txt" and _LIST.fullmatch(path.stem) is not None)


def _list_files(path: Path) -> list[tuple[Path, Path]]:
    """Return the two lists (same, diff) of each fold: of the one that ``path`` belongs to, or of all in a folder.

    In a folder the lists ``*_test_same.txt`` count where there are any, else all ``*_same.txt``.

    Raises ``DataError`` where there is none, or a list misses its partner.
    """
    if not is_folder(path):
        if not exists(path):
            raise DataError(f"{path}: is not there; name a file of pairs, or a folder of lists")
        stem = path.stem.removesuffix("same").removesuffix("diff")
        both = path.with_name(f"{stem}same.txt"), path.with_name(f"{stem}diff.txt")
        missing = [one for one in both if not is_file(one)]
        if missing:
            raise DataError(
                f"{path}: misses its partner {missing[0].name} beside it; both lists make the pairs"
            )
        return [both]
    names = [file.name for file in path.iterdir() if not file.name.startswith(".")]  # ._01_test_same.txt
    stems = {name[: -len(end)] for name in names for end in ("same.txt", "diff.txt") if name.endswith(end)}
    tests = {stem for stem in stems if stem.endswith("test_")}
    chosen = sorted(tests or stems, key=natural_order)
    if not chosen:
        raise DataError(f"{path}: holds no lists of pairs such as 01_test_same.txt and 01_test_diff.txt")
    return [_list_files(_existing(path, stem))[0] for stem in chosen]


def _existing(folder: Path, stem: str) -> Path:
    same = folder / f"{stem}same.txt"
    return same if is_file(same) else folder / f"{stem}diff.txt"


def _read_two_lists(path: Path, folder: IdentityFolder) -> list[_PairLine]:
    """Return the pairs of lists in LFWcrop's form: ``01_test_same.txt`` and ``01_test_diff.txt`` for each fold.

    A line holds two stems, ``A_0001 B_0002``, of the pictures A/A_0001.* and B/B_0002.* (or of such files right below
    the folder). The pairs of the two kinds come in turn in each fold.

    Raises ``DataError`` for a line of another form, a person or picture that is not there, or a pair in the wrong list.
    """
    found: list[_PairLine] = []
    both = _list_files(path)
    for fold, files in enumerate(both):
        pairs = [
            _stems_pair(f"{file}, line {number}", line, folder, same=same)
            for file, same in zip(files, (True, False), strict=True)
            for number, line in numbered_lines(file)
        ]
        name = str(fold) if len(both) > 1 else None
        found += [pair._replace(fold=name) for pair in _in_turn(pairs)]
    return found


def _stems_pair(place: str, line: str, folder: IdentityFolder, *, same: bool) -> _PairLine:
    stems = line.split()
    matches = [match for match in map(_STEM.fullmatch, stems) if match is not None]
    names = [match[1] for match in matches]
    if len(stems) != 2 or len(names) != 2:
        raise DataError(f"{place}: found {line.strip()[:80]!r}; allowed: two names such as A_0001 B_0002")
    if (names[0] == names[1]) is not same:
        raise DataError(
            f"{place}: {stems[0]} and {stems[1]} show {'two people' if same else 'one person'}, and this is the list "
            f"of {'one' if same else 'two'}"
        )
    try:
        first, second = (_stem_picture(folder, match) for match in matches)
    except DataError as error:
        raise DataError(f"{place}: {error}") from None
    return _PairLine(place, first, second, same, (names[0], names[1]))


def _stem_picture(folder: IdentityFolder, match: re.Match[str]) -> Path:
    stem, person, number = match[0], match[1], int(match[2])
    flat = () if folder.has(person) else folder.flat_pictures(stem)
    if len(flat) > 1:
        raise DataError(f"{flat[0]} and {flat[1].name} are both {stem}; remove one")
    return flat[0] if flat else folder.picture(person, number)


def _read_csv_pairs(path: Path, folder: IdentityFolder) -> list[_PairLine]:
    """Return the pairs of a CSV file with the columns first, second (paths from the folder on), same and maybe fold.

    ``same`` is 1 or 0 (true or false). A picture's person is the name of the first folder on its path; of pictures
    right below ``folder`` nobody is known. Other columns are not read. A cell in quotes ends on its line.

    Raises ``DataError`` for a missing column or picture, a path that leads out of the folder, a cell that says neither,
    or a row that its own folders contradict.
    """
    rows = ((f"{path}, line {number}", line) for number, line in numbered_lines(path))
    header = _csv_cells(*next(rows))
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        raise DataError(
            f"{path}: has the columns {listed(header)[:100]}; needed: {listed(_COLUMNS)}, and fold where the folds are "
            "given"
        )
    return list(_csv_pairs(header, ((place, _csv_cells(place, line)) for place, line in rows), folder))


def _csv_cells(place: str, line: str) -> list[str]:
    # Line by line: a stray quote would take in all that follows.
    return parse_row(line, error=DataError, place=place)


def _csv_pairs(
    header: Sequence[str], rows: Iterable[tuple[str, list[str]]], folder: IdentityFolder
) -> Iterator[_PairLine]:
    for place, cells in rows:
        if len(cells) != len(header):
            raise DataError(f"{place}: found {len(cells)} cells; the first line has {len(header)}")
        row = dict(zip(header, cells, strict=True))
        same = _SAME.get(row["same"].lower())
        if same is None:
            raise DataError(f"{place}: found same = {row['same'][:60]!r}; allowed: 1 (one person) or 0 (two)")
        fold = row.get("fold")
        if fold == "":
            raise DataError(f"{place}: the fold is missing; give each pair one, or leave the column out")
        (first, one), (second, other) = (_csv_picture(place, row[key], folder) for key in ("first", "second"))
        if one is not None and other is not None and (one == other) is not same:
            raise DataError(
                f"{place}: says that the pictures show {'one person' if same else 'two people'}, and they lie in the "
                f"folders of {one!r} and {other!r}; correct it, or name the folder of the people's folders (--root)"
            )
        yield _PairLine(place, first, second, same, (one, other), fold)


def _csv_picture(place: str, cell: str, folder: IdentityFolder) -> tuple[Path, str | None]:
    """Return a picture and who is on it."""
    path = path_below(folder.root, cell)  # of ann/../bob/1.png bob's
    if path is None:
        raise DataError(f"{place}: {cell[:80]!r} leads out of {folder.root}; write paths from that folder on")
    if not is_file(path):
        raise DataError(f"{place}: there is no picture {cell[:80]!r} in {folder.root}")
    inside = path.relative_to(folder.root)
    person = inside.parts[0] if len(inside.parts) > 1 else None
    if person is not None and not folder.has(person):
        raise DataError(f"{place}: {person!r} is no person's folder in {folder.root}; rename it")
    return path, person


__all__ = [
    "USUAL_FOLDS",
    "Flags",
    "Numbers",
    "Pairs",
    "contiguous_folds",
    "folds_of",
    "is_list",
    "numbered_lines",
    "read_pairs",
]
