"""make_pairs: pairs of an identity folder's pictures, drawn from a seed, none twice, in LFW's format."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch

from kdcam.data.identity_folder import IdentityFolder, similar_names
from kdcam.data.verification_pairs import USUAL_FOLDS, is_list
from kdcam.errors import DataError
from kdcam.files.atomic_writes import make_folder, write_atomically
from kdcam.files.paths import expanded, is_folder
from kdcam.models.weights.config_json import read_config
from kdcam.runs.provenance import provenance_of
from kdcam.runtime.seeding import seeded_generator
from kdcam.settings.messages import did_you_mean, first_few

MOST_PER_FOLD = 300  # pairs of a kind in a fold, as in LFW's own
_GENUINE, _IMPOSTOR = 0, 1  # so that the two draws share no stream
_TRIES = 8  # draws by people for each pair wanted, before any pairs are taken: kdcam's choice

NumberedPicture = tuple[str, int]
"""A person and the picture's number."""

PicturePairs = list[tuple[NumberedPicture, NumberedPicture]]


class DrawnPairs(NamedTuple):
    """What was drawn, and where it is written."""

    file: Path
    folds: int
    per_fold: int  # pairs of one person in a fold, and as many of two people
    people: tuple[str, ...]
    pictures: int  # of these people, whether in a pair or not
    notes: tuple[str, ...] = ()  # what else is to be known, in sentences

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes."""
        return {**self._asdict(), "file": str(self.file)}


def make_pairs(
    folder: str | Path,
    output: str | Path,
    *,
    people: Sequence[str] = (),
    not_in: Sequence[str | Path] = (),
    folds: int = USUAL_FOLDS,
    per_fold: int | None = None,
    seed: int = 0,
) -> DrawnPairs:
    """Draw pairs of an identity folder's pictures and write them in the format of LFW's pairs.txt.

    Pairs of one person are drawn in rounds of the people, each person's pairs in an order of their own, so that people
    of many pictures do not outweigh the others. Pairs of two: two people, then a picture of each; where these
    run out, any pairs. No pair comes twice. The folds are cut from all pairs in an order of its own, so that none holds
    other people than the rest. A person may come in several folds, other than in LFW: few people would make no folds
    else.

    Args:
        folder: With a folder of pictures for each person.
        output: The file, replaced where it is there; its name must be one that
            `kdcam.data.verification_pairs.read_pairs` takes for a file in this format.
        people: Only these; none: all in the folder.
        not_in: Runs (or files beside their config.json) whose classes are left out, so that no person is in both; those
            of what they were started from or taught by, too.
        folds: How many.
        per_fold: Pairs of one person in a fold, and as many of two; none: as many as can be, at most 300.
        seed: Decides the draw.

    Raises ``DataError`` where there is no such folder or person, too few people or pictures, a name that the format
    cannot hold, or a run whose classes have no names; ``CheckpointError`` for a run, or where the file cannot be
    written.
    """
    if folds < 2 or (per_fold is not None and per_fold < 1):
        raise ValueError(f"{folds} folds of {per_fold} pairs; wanted: 2 or more folds of 1 pair or more")
    file = _pairs_file(expanded(output))
    identities = IdentityFolder(Path(folder))
    chosen, notes = _chosen(identities, people, not_in)
    numbers = {name: tuple(identities.pictures(name)) for name in chosen}
    wanted = _pairs_a_fold(numbers, folds, per_fold, identities.root)
    genuine = genuine_pairs(numbers, folds * wanted, seed=seed)
    others = impostor_pairs(numbers, folds * wanted, seed=seed)
    lines = [f"{folds}\t{wanted}"]
    for start in range(0, folds * wanted, wanted):
        lines += [f"{one[0]}\t{one[1]}\t{two[1]}" for one, two in genuine[start : start + wanted]]
        lines += [f"{one[0]}\t{one[1]}\t{two[0]}\t{two[1]}" for one, two in others[start : start + wanted]]
    make_folder(file.parent)
    write_atomically(file, ("\n".join(lines) + "\n").encode())
    pictures = sum(map(len, numbers.values()))
    return DrawnPairs(file, folds, wanted, chosen, pictures, (*identities.notes, *notes))


def _pairs_file(file: Path) -> Path:
    if is_list(file) or file.suffix.lower() == ".csv":
        other = "a folder of lists" if is_folder(file) else "a file of another format"
        raise DataError(f"output: {file} would be read as {other}; call it pairs.txt, say")
    return file


def _chosen(
    identities: IdentityFolder, people: Sequence[str], not_in: Sequence[str | Path]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who takes part, and what is to be said of it."""
    unknown = [name for name in people if name not in identities.people]
    if unknown:
        raise DataError(
            f"people: there is no folder of {unknown[0]!r} in {identities.root}"
            f"{did_you_mean(unknown[0], identities.people)}"
        )
    seen, notes = _people_seen_by(identities, not_in)
    chosen = tuple(name for name in identities.people if name not in seen and (not people or name in people))
    if len(chosen) < 2:
        left_out = (
            f", {len(seen.intersection(identities.people))} left out as a run's classes" if seen else ""
        )
        raise DataError(
            f"{identities.root}: {len(chosen)} people are left of {len(identities.people)}{left_out}; pairs need 2 or "
            "more"
        )
    for name in chosen:
        _check_name(identities.root, name)
    return chosen, notes


def _people_seen_by(
    identities: IdentityFolder, runs: Sequence[str | Path]
) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the people whom runs have seen, and what is to be said of it."""
    seen, notes = set[str](), []
    for run in runs:
        own = read_config(Path(run)).label_names
        if not own:
            raise DataError(
                f"{run}: its classes have no names, so that nobody can be left out; name the people (--people)"
            )
        provenance = provenance_of(run)
        names = {*own, *(name for other in provenance.others for name in other.label_names)}
        similar = similar_names(identities.people, names)
        if similar:
            notes.append(
                f"{run}: {len(similar)} people are left out since a class is called nearly so: "
                f"{first_few(f'{name!r} ({other!r})' for name, other in similar.items())}"
            )
        doubt = provenance.doubt()
        notes += [] if doubt is None else [doubt]
        seen |= {*names, *similar}
    return frozenset(seen), tuple(notes)


def _check_name(root: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        plain = False
    else:
        plain = name.splitlines() == [name] and "\t" not in name and name.strip() == name
    if not plain:
        raise DataError(
            f"{root}: {name!r} has a tab, a line break, a blank at an end or bytes that are no UTF-8, which a line of "
            "pairs cannot hold; rename the folder"
        )


def _pairs_a_fold(numbers: Mapping[str, Sequence[int]], folds: int, per_fold: int | None, root: Path) -> int:
    counts = [len(pictures) for pictures in numbers.values()]
    genuine, others = possible_pairs(counts)
    possible = min(genuine, others)
    wanted = min(possible // folds, MOST_PER_FOLD) if per_fold is None else per_fold
    if wanted < 1 or folds * wanted > possible:
        raise DataError(
            f"{root}: the {sum(counts)} pictures of {len(counts)} people ({first_few(numbers)}) make "
            f"{genuine} pairs of one person and {others} of two, too few for {folds} folds of "
            f"{max(wanted, 1)} each; ask for fewer pairs (--per-fold) or folds (--folds)"
        )
    return wanted


def possible_pairs(counts: Sequence[int]) -> tuple[int, int]:
    """Return how many pairs of one person and of two there are, of people with so many pictures."""
    genuine = sum(count * (count - 1) // 2 for count in counts)
    return genuine, (sum(counts) ** 2 - sum(count * count for count in counts)) // 2


def genuine_pairs(numbers: Mapping[str, Sequence[int]], wanted: int, *, seed: int) -> PicturePairs:
    """Return pairs of one person, drawn in rounds of the people and then brought into a random order.

    Args:
        numbers: The numbers of each person's pictures.
        wanted: How many; at most as many as there are.
        seed: Decides the draw.
    """
    generator = seeded_generator(seed, _GENUINE)
    left = {
        name: in_random_order(len(own) * (len(own) - 1) // 2, generator)
        for name, own in numbers.items()
        if len(own) > 1
    }
    drawn: PicturePairs = []
    while len(drawn) < wanted:
        names = list(left)
        for index in torch.randperm(len(names), generator=generator).tolist():
            name = names[index]
            pair = next(left[name], None)
            if pair is None:
                del left[name]
            elif len(drawn) < wanted:
                later = (1 + math.isqrt(1 + 8 * pair)) // 2  # pair = later (later - 1) / 2 + earlier
                earlier = pair - later * (later - 1) // 2
                drawn.append(((name, numbers[name][earlier]), (name, numbers[name][later])))
    return _shuffled(drawn, generator)


def impostor_pairs(numbers: Mapping[str, Sequence[int]], wanted: int, *, seed: int) -> PicturePairs:
    """Return pairs of two people: two people, then a picture of each; where repeats prevail, any pairs.

    In a random order. Arguments as those of `genuine_pairs`.
    """
    generator = seeded_generator(seed, _IMPOSTOR)
    total = possible_pairs([len(own) for own in numbers.values()])[1]
    drawn: dict[tuple[NumberedPicture, NumberedPicture], None] = {}
    if 2 * wanted <= total:
        # Of people with few pictures repeats soon prevail where others have many: the draws are counted.
        for pair in islice(_by_people(numbers, generator), _TRIES * wanted):
            drawn[pair] = None
            if len(drawn) == wanted:
                break
    if len(drawn) < wanted:
        for pair in _any_order(numbers, generator):
            drawn[pair] = None
            if len(drawn) == wanted:
                break
    return _shuffled(list(drawn), generator)


def _by_people(
    numbers: Mapping[str, Sequence[int]], generator: torch.Generator
) -> Iterator[tuple[NumberedPicture, NumberedPicture]]:
    names = list(numbers)
    while True:
        one = _below(len(names), generator)
        other = (one + 1 + _below(len(names) - 1, generator)) % len(names)
        first, second = (names[index] for index in sorted((one, other)))
        yield (
            (first, numbers[first][_below(len(numbers[first]), generator)]),
            (second, numbers[second][_below(len(numbers[second]), generator)]),
        )


def _any_order(
    numbers: Mapping[str, Sequence[int]], generator: torch.Generator
) -> Iterator[tuple[NumberedPicture, NumberedPicture]]:
    """Yield all pairs of two people, in a random order."""
    pictures = [(name, number) for name, own in numbers.items() for number in own]
    ends = numpy.cumsum([len(own) for own in numbers.values()]).tolist()
    starts = [0, *ends[:-1]]
    # Each picture makes a pair with all pictures of the people after its own.
    before = numpy.cumsum(
        [0, *((end - start) * (len(pictures) - end) for start, end in zip(starts, ends, strict=True))]
    )
    for pair in in_random_order(int(before[-1]), generator):
        person = int(numpy.searchsorted(before, pair, side="right")) - 1
        picture, other = divmod(pair - int(before[person]), len(pictures) - ends[person])
        yield pictures[starts[person] + picture], pictures[ends[person] + other]


def in_random_order(total: int, generator: torch.Generator) -> Iterator[int]:
    """Yield 0 ... ``total`` - 1, each once, in a random order; takes memory for those alone that were yielded.

    Source: Fisher and Yates' shuffle, of which only the entries that were moved are kept.
    """
    moved: dict[int, int] = {}
    for position in range(total):
        chosen = position + _below(total - position, generator)
        yield moved.get(chosen, chosen)
        moved[chosen] = moved.pop(position, position)


def _shuffled(drawn: PicturePairs, generator: torch.Generator) -> PicturePairs:
    return [drawn[index] for index in torch.randperm(len(drawn), generator=generator).tolist()]


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


__all__ = [
    "MOST_PER_FOLD",
    "DrawnPairs",
    "NumberedPicture",
    "PicturePairs",
    "genuine_pairs",
    "impostor_pairs",
    "in_random_order",
    "make_pairs",
    "possible_pairs",
]
