"""Pairs of pictures drawn from a seed, none of them twice, without a list of all that there are."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy
import torch

from kdcam.runtime.seeding import seeded_generator

_GENUINE, _OTHERS = 0, 1  # so that the two draws share no stream
_TRIES = 8  # draws by people for each pair wanted, before any pairs are taken: kdcam's choice

NumberedPicture = tuple[str, int]
"""A person and the picture's number."""

PicturePairs = list[tuple[NumberedPicture, NumberedPicture]]


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
    generator = seeded_generator(seed, _OTHERS)
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
    for place in range(total):
        chosen = place + _below(total - place, generator)
        yield moved.get(chosen, chosen)
        moved[chosen] = moved.pop(place, place)


def _shuffled(drawn: PicturePairs, generator: torch.Generator) -> PicturePairs:
    return [drawn[index] for index in torch.randperm(len(drawn), generator=generator).tolist()]


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


__all__ = [
    "NumberedPicture",
    "PicturePairs",
    "genuine_pairs",
    "impostor_pairs",
    "in_random_order",
    "possible_pairs",
]
