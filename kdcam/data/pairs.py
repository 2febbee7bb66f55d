"""Pairs of face pictures of one person or of two, and the folds that they are tested in."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from kdcam.data.identity_folder import IdentityFolder
from kdcam.data.verification_pairs import PairLine, is_list, read_csv_pairs, read_lfw, read_two_lists
from kdcam.errors import DataError
from kdcam.files.paths import expanded, resolved

USUAL_FOLDS = 10  # LFW's

Numbers = NDArray[numpy.int64]
Flags = NDArray[numpy.bool_]


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
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _readable(path: Path) -> str:
    """Return a path as text that has a form in UTF-8, whatever bytes the file system holds."""
    return str(path).encode(errors="backslashreplace").decode()


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
        lines = read_two_lists(file, folder)
    elif file.suffix.lower() == ".csv":
        lines = read_csv_pairs(file, folder)
    else:
        lines = read_lfw(file, folder)
    for same, words in ((True, "one person"), (False, "two people")):
        if not any(line.same is same for line in lines):
            raise DataError(f"{file}: of its {len(lines)} pairs none is of {words}; both kinds are needed")
    pairs = _numbered(file, folder.root, lines)
    return replace(pairs, notes=(*folder.notes, *_repeats(pairs, lines)))


def _numbered(file: Path, root: Path, lines: Sequence[PairLine]) -> Pairs:
    real = {path: resolved(path) for line in lines for path in (line.first, line.second)}
    shown: dict[Path, Path] = {}  # by the file itself, which several paths may lead to: the first of them
    people: dict[Path, str | None] = {}
    for line in lines:
        for path, person in zip((line.first, line.second), line.people, strict=True):
            shown.setdefault(real[path], path)
            people[path] = person
        if real[line.first] == real[line.second]:
            raise DataError(f"{line.place}: is a picture and itself ({line.first}); name two pictures")
    numbers = {file: index for index, file in enumerate(shown)}
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
        tuple(shown.values()),
        tuple(sorted({name for name in people.values() if name is not None})),
        len(unnamed),
        numpy.array([position[line.first] for line in lines], dtype=numpy.int64),
        numpy.array([position[line.second] for line in lines], dtype=numpy.int64),
        numpy.array([line.same for line in lines]),
        folds,
    )


def _repeats(pairs: Pairs, lines: Sequence[PairLine]) -> Iterator[str]:
    """Yield a sentence where pairs come again, in either order; ``DataError`` where such two are told differently."""
    before: dict[tuple[int, int], PairLine] = {}
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


__all__ = ["USUAL_FOLDS", "Pairs", "contiguous_folds", "folds_of", "read_pairs"]
