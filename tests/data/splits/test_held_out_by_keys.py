import hashlib
from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcam.data.splits.held_out import held_count, held_out_by_keys, key_order
from kdcam.errors import DataError

SHARES = {"test": 0.1, "validation": 0.1}


def key(number):
    return hashlib.sha256(str(number).encode()).digest()


def parts_of(numbers, targets, *, classes, seed=0, **shares):
    """Return the part of each picture, by its number."""
    keys = [key(number) for number in numbers]
    held = held_out_by_keys(
        keys,
        torch.as_tensor(targets),
        label_names=[f"class {k}" for k in range(classes)],
        seed=seed,
        place="data",
        **(SHARES | shares),
    )
    found = dict.fromkeys(numbers, "train")
    for part, positions in held._asdict().items():
        found.update({numbers[position]: part for position in positions.tolist()})
    return found


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(0, 10**9),
    classes=st.integers(2, 20),
    seed=st.integers(0, 5),
    test=st.sampled_from([0.0, 0.1, 0.25, 0.6]),
    validation=st.sampled_from([0.0, 0.1, 0.3]),
    several=st.booleans(),
)
def test_a_picture_added_to_a_thousand_moves_one_other_at_most(
    first, classes, seed, test, validation, several
):
    numbers = list(range(first, first + 1001))
    generator = torch.Generator().manual_seed(first)
    if several:
        targets = torch.rand(1001, classes, generator=generator) < 0.3
    else:
        targets = torch.randint(classes, (1001,), generator=generator)
    how = {"classes": classes, "seed": seed, "test": test, "validation": validation}
    before = parts_of(numbers[:-1], targets[:-1], **how)
    after = parts_of(numbers, targets, **how)
    assert sum(after[number] != part for number, part in before.items()) <= 1
    # and so does one that is taken away, which is the same the other way round
    sizes = Counter(before.values())
    # Of two parts, how many pictures may be held out for which is drawn (standard deviation at most 13 here).
    near = 80 if test and validation else classes + 1
    assert sizes["test"] == pytest.approx(1000 * test, abs=near)
    assert sizes["validation"] == pytest.approx(1000 * (1 - test) * validation, abs=near)


def test_each_class_gives_its_share_and_the_order_of_the_files_does_not_matter():
    numbers = list(range(1000))
    targets = [number % 4 for number in numbers]
    found = parts_of(numbers, targets, classes=4, test=0.2, validation=0.0)
    counts = Counter((number % 4, part) for number, part in found.items())
    assert [counts[k, "test"] for k in range(4)] == [50] * 4
    turned = parts_of(numbers[::-1], targets[::-1], classes=4, test=0.2, validation=0.0)
    assert turned == found


def test_another_seed_is_another_split():
    numbers = list(range(1000))
    one, other = (parts_of(numbers, [0] * 1000, classes=1, seed=seed) for seed in (0, 1))
    held = [{number for number, part in found.items() if part != "train"} for found in (one, other)]
    assert len(held[0] & held[1]) < 60  # of about 190: as chance has it, 36


def test_the_smallest_keys_behind_the_seed_are_held_out():
    numbers = list(range(50))
    order = key_order([key(number) for number in numbers], 3).tolist()
    found = parts_of(numbers, [0] * 50, classes=1, seed=3, test=0.2, validation=0.0)
    assert sorted(n for n, part in found.items() if part == "test") == sorted(order[:10])


def test_copies_go_where_their_picture_goes_and_what_two_classes_show_is_rarely_held_out():
    numbers = [*range(100), *range(100)]
    keys = [key(number) for number in numbers]
    both = torch.tensor([0] * 100 + [1] * 100)
    names = {"label_names": ("a", "b"), "seed": 0, "place": "data", **SHARES}
    for targets in (torch.zeros(200, dtype=torch.int64), both):
        held = held_out_by_keys(keys, targets, **names)
        parts = [{numbers[i] for i in positions.tolist()} for positions in held]
        assert not parts[0] & parts[1]
        for positions, part in zip(held, parts, strict=True):
            assert len(positions) == 2 * len(part) > 0  # no copy stays behind in training


def test_small_classes_give_together_what_their_sum_would():
    numbers = list(range(800))
    found = parts_of(numbers, [n // 4 for n in numbers], classes=200, test=0.1, validation=0.0)
    held = Counter(n // 4 for n, part in found.items() if part == "test")
    assert sum(held.values()) == pytest.approx(80, abs=20)
    assert set(held.values()) == {1}


def test_a_class_keeps_a_picture_and_a_small_folder_holds_one_out():
    found = parts_of(list(range(9)), [0, *[1] * 8], classes=2, test=0.9, validation=0.0)
    assert found[0] == "train"
    assert "train" in [found[n] for n in range(1, 9)]
    for first in range(0, 200, 10):
        small = parts_of(list(range(first, first + 10)), [0] * 5 + [1] * 5, classes=2)
        counts = Counter(small.values())
        assert 1 <= counts["test"] <= 2
        assert 1 <= counts["validation"] <= 2


def test_rows_leave_each_class_a_picture_in_training():
    rows = torch.zeros(40, 12)
    rows[:, 0] = 1
    for label in range(1, 12):
        rows[3 * label, label] = 1  # a class of one picture
    for first in range(0, 400, 40):
        found = parts_of(list(range(first, first + 40)), rows, classes=12, test=0.4, validation=0.3)
        kept = torch.tensor([part == "train" for part in found.values()])
        assert bool((rows[kept].sum(0) > 0).all())


def test_a_share_of_nothing_is_refused():
    with pytest.raises(
        DataError, match=r"data: test = 0\.1 of 4 training images in 2 classes holds out no image"
    ):
        parts_of([0, 1, 2, 3], [0, 0, 1, 1], classes=2)
    with pytest.raises(DataError, match=r"validation = 0\.5 of 2 training images"):
        parts_of([0, 1], [0, 1], classes=2, test=0.0, validation=0.5)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("offset", [0.0, 0.3, 0.999])
def test_one_more_picture_holds_out_one_more_at_most(share, offset):
    counts = [held_count(n, share, offset=offset, keep=1) for n in range(300)]
    assert counts[:2] == [0, 0]
    assert all(later - now in (0, 1) for now, later in pairwise(counts))
    assert counts[-1] == pytest.approx(share * 299, abs=1)
