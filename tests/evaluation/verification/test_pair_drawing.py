from collections import Counter
from itertools import combinations, islice

import torch

from kdcam.evaluation.verification.pair_drawing import (
    genuine_pairs,
    impostor_pairs,
    in_random_order,
    possible_pairs,
)

NUMBERS = {"a": (1, 2, 5), "b": (7,), "c": (1, 2), "d": (3, 4, 8, 9)}
PICTURES = [(name, number) for name, own in NUMBERS.items() for number in own]
ALL = list(combinations(PICTURES, 2))
OF_TWO = {pair for pair in ALL if pair[0][0] != pair[1][0]}


def test_all_that_there_are() -> None:
    genuine, others = possible_pairs([3, 1, 2, 4])
    assert (genuine, others) == (len(ALL) - len(OF_TWO), len(OF_TWO))
    found = genuine_pairs(NUMBERS, genuine, seed=0)
    assert len(found) == genuine
    assert set(found) == set(ALL) - OF_TWO
    assert len(impostor_pairs(NUMBERS, others, seed=0)) == others
    for wanted in (3, others // 2, others - 1, others):
        some = impostor_pairs(NUMBERS, wanted, seed=wanted)
        assert len(set(some)) == len(some) == wanted
        assert OF_TWO.issuperset(some)


def test_pairs_of_one_person_come_evenly_in_any_part() -> None:
    numbers = {"many": tuple(range(40)), **{f"p{index}": (1, 2) for index in range(50)}}
    found = genuine_pairs(numbers, 300, seed=0)
    halves = [Counter(pair[0][0] for pair in part)["many"] for part in (found[:150], found[150:])]
    assert sum(halves) == 250
    assert min(halves) > 110  # by rounds the first half would hold 100


def test_repeats_that_prevail_end() -> None:
    # Two of 22 people make 6 in 10 of the pairs, and one in 231 draws of two people.
    numbers = {"x": tuple(range(75)), "y": tuple(range(75)), **{f"p{index}": (1,) for index in range(20)}}
    total = possible_pairs([len(own) for own in numbers.values()])[1]
    wanted = 4000
    assert 2 * wanted < total
    assert len(set(impostor_pairs(numbers, wanted, seed=0))) == wanted


def test_people_of_many_pictures_do_not_outweigh_the_others() -> None:
    numbers = {"many": tuple(range(1000)), **{f"p{index}": tuple(range(5)) for index in range(20)}}
    found = impostor_pairs(numbers, 200, seed=0)
    assert sum("many" in (one[0], other[0]) for one, other in found) < 40  # of pictures alike: nearly all


def test_a_random_order_is_one_and_lists_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    orders = [tuple(in_random_order(4, generator)) for _ in range(2400)]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    counts = Counter(orders)
    assert len(counts) == 24
    assert 60 < min(counts.values()) <= max(counts.values()) < 145  # 100 each, sd 10
    few = list(islice(in_random_order(10**15, generator), 5))
    assert len(set(few)) == 5
    assert max(few) < 10**15
