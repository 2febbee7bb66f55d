"""make_pairs: pairs of an identity folder's pictures, drawn from a seed and written in LFW's format."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kdcam.atomic import make_folder, write_atomically
from kdcam.data.identities import IdentityFolder
from kdcam.data.pairs import USUAL_FOLDS
from kdcam.data.seeding import seeded_generator
from kdcam.errors import DataError
from kdcam.stored_model import read_config
from kdcam.wording import did_you_mean, listed

MOST_EACH = 300  # pairs of a kind in a fold, as in LFW's own
_GENUINE, _OTHERS = 0, 1  # so that the two draws share no stream

Picture = tuple[str, int]
"""A person and the picture's number."""


class DrawnPairs(NamedTuple):
    """What was drawn, and where it is written."""

    file: Path
    folds: int
    each: int  # pairs of one person in a fold, and as many of two people
    people: tuple[str, ...]
    pictures: int  # of these people, whether in a pair or not

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
    each: int | None = None,
    seed: int = 0,
) -> DrawnPairs:
    """Draw pairs of an identity folder's pictures and write them in the format of LFW's pairs.txt.

    Pairs of one person are drawn in rounds of the people, each person's pairs in an order of their own, so that people
    of many pictures do not outweigh the others. Pairs of two: two people, then a picture of each; where more than half
    of all such pairs are wanted, any of them. No pair comes twice. A person may come in several folds, other than in
    LFW: few people would make no folds else.

    Args:
        folder: With a folder of pictures for each person.
        output: The file, replaced where it is there.
        people: Only these; none: all in the folder.
        not_in: Runs (or files beside their config.json) whose classes are left out, so that no person is in both.
        folds: How many.
        each: Pairs of one person in a fold, and as many of two; none: as many as can be, at most 300.
        seed: Decides the draw.

    Raises ``DataError`` where there is no such folder or person, or too few people or pictures; ``CheckpointError`` for
    a run, or where the file cannot be written.
    """
    if folds < 2 or (each is not None and each < 1):
        raise ValueError(f"{folds} folds of {each} pairs; wanted: 2 or more folds of 1 pair or more")
    identities = IdentityFolder(Path(folder))
    chosen = _chosen(identities, people, not_in)
    numbers = {name: tuple(identities.pictures(name)) for name in chosen}
    wanted = _each(numbers, folds, each, identities.root)
    genuine = _of_one_person(numbers, folds * wanted, seed)
    others = _of_two_people(numbers, folds * wanted, seed)
    lines = [f"{folds}\t{wanted}"]
    for start in range(0, folds * wanted, wanted):
        lines += [f"{one[0]}\t{one[1]}\t{two[1]}" for one, two in genuine[start : start + wanted]]
        lines += [f"{one[0]}\t{one[1]}\t{two[0]}\t{two[1]}" for one, two in others[start : start + wanted]]
    file = Path(output).expanduser()
    make_folder(file.parent)
    write_atomically(file, ("\n".join(lines) + "\n").encode())
    return DrawnPairs(file, folds, wanted, chosen, sum(map(len, numbers.values())))


def _chosen(
    identities: IdentityFolder, people: Sequence[str], not_in: Sequence[str | Path]
) -> tuple[str, ...]:
    unknown = [name for name in people if name not in identities.people]
    if unknown:
        raise DataError(
            f"people: there is no folder of {unknown[0]!r} in {identities.root}"
            f"{did_you_mean(unknown[0], identities.people)}"
        )
    seen = {name for run in not_in for name in read_config(Path(run)).label_names}
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
        if any(sign in name for sign in "\t\r\n"):
            raise DataError(f"{identities.root}: {name!r} has a tab or a line break in it; rename the folder")
    return chosen


def _each(numbers: Mapping[str, Sequence[int]], folds: int, each: int | None, root: Path) -> int:
    counts = [len(pictures) for pictures in numbers.values()]
    genuine = sum(count * (count - 1) // 2 for count in counts)
    possible = min(genuine, _pairs_of_two(counts))
    wanted = min(possible // folds, MOST_EACH) if each is None else each
    if wanted < 1 or folds * wanted > possible:
        raise DataError(
            f"{root}: the {sum(counts)} pictures of {len(counts)} people ({listed(list(numbers)[:3])} ...) make "
            f"{genuine} pairs of one person and {_pairs_of_two(counts)} of two, too few for {folds} folds of "
            f"{max(wanted, 1)} each; ask for fewer pairs (--per-fold) or folds (--folds)"
        )
    return wanted


def _pairs_of_two(counts: Sequence[int]) -> int:
    return int((sum(counts) ** 2 - sum(count * count for count in counts)) // 2)


def _of_one_person(
    numbers: Mapping[str, Sequence[int]], wanted: int, seed: int
) -> list[tuple[Picture, Picture]]:
    generator = seeded_generator(seed, _GENUINE)
    left: dict[str, list[tuple[int, int]]] = {}
    for name, pictures in numbers.items():
        pairs = list(combinations(pictures, 2))
        if pairs:
            left[name] = [pairs[index] for index in torch.randperm(len(pairs), generator=generator).tolist()]
    drawn: list[tuple[Picture, Picture]] = []
    while len(drawn) < wanted:
        names = list(left)
        for index in torch.randperm(len(names), generator=generator).tolist()[: wanted - len(drawn)]:
            name = names[index]
            one, two = left[name].pop()
            drawn.append(((name, one), (name, two)))
        left = {name: pairs for name, pairs in left.items() if pairs}
    return drawn


def _of_two_people(
    numbers: Mapping[str, Sequence[int]], wanted: int, seed: int
) -> list[tuple[Picture, Picture]]:
    generator = seeded_generator(seed, _OTHERS)
    if 2 * wanted > _pairs_of_two([len(pictures) for pictures in numbers.values()]):
        pictures = [(name, number) for name, own in numbers.items() for number in own]
        pairs = [pair for pair in combinations(pictures, 2) if pair[0][0] != pair[1][0]]
        return [pairs[index] for index in torch.randperm(len(pairs), generator=generator)[:wanted].tolist()]
    drawn: dict[tuple[Picture, Picture], None] = {}
    for pair in _draws(numbers, generator):
        drawn[pair] = None  # less than half of all are drawn: a repeat is never the likelier case by much
        if len(drawn) == wanted:
            break
    return list(drawn)


def _draws(
    numbers: Mapping[str, Sequence[int]], generator: torch.Generator
) -> Iterator[tuple[Picture, Picture]]:
    names = list(numbers)
    while True:
        one, other = (int(torch.randint(len(names), (), generator=generator)) for _ in range(2))
        if one == other:
            continue
        both = []
        for name in (names[min(one, other)], names[max(one, other)]):
            own = numbers[name]
            both.append((name, own[int(torch.randint(len(own), (), generator=generator))]))
        yield both[0], both[1]


__all__ = ["MOST_EACH", "DrawnPairs", "make_pairs"]
