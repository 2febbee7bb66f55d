import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcam.data.splits.held_out import (
    check_split,
    checked_split,
    drawn_positions,
    held_out_counts,
    interleave_classes,
    stratified_rows_split,
    stratified_split,
)
from kdcam.errors import DataError


@pytest.mark.parametrize(
    ("counts", "share", "held"),
    [
        ([10, 20, 30], 0.1, [1, 2, 3]),
        ([5, 5, 5, 5], 0.1, [1, 1, 0, 0]),  # 2 of 20: the first of equals
        ([4, 9], 0.5, [2, 4]),  # round(6.5) is 6, and 4 + 2 are the shares rounded down
        ([1, 9], 0.9, [0, 8]),  # a class keeps one image
        ([0, 10], 0.2, [0, 2]),
        ([3, 3], 0.0, [0, 0]),
    ],
)
def test_held_out_counts_by_hand(counts, share, held):
    assert held_out_counts(counts, share) == held


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.floats(0, 0.95), st.integers(0, 9))
def test_a_split_is_disjoint_whole_and_near_the_share_in_every_class(counts, share, seed):
    targets = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    targets = targets[torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))]
    kept, held = stratified_split(targets, num_classes=len(counts), share=share, seed=seed)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(targets)))
    assert torch.equal(kept, kept.sort().values)
    assert torch.equal(held, held.sort().values)
    by_class = torch.bincount(targets[held], minlength=len(counts)).tolist()
    assert by_class == held_out_counts(counts, share)
    for count, part in zip(counts, by_class, strict=True):
        assert part <= count - 1
        assert abs(part - share * count) < 1 or part == count - 1


def test_the_split_depends_on_its_seed_alone():
    targets = torch.arange(100) % 5
    first = stratified_split(targets, num_classes=5, share=0.2, seed=0)
    torch.manual_seed(99)
    again = stratified_split(targets, num_classes=5, share=0.2, seed=0)
    other = stratified_split(targets, num_classes=5, share=0.2, seed=1)
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_a_share_that_holds_nothing_out_is_refused_with_the_way_out():
    with pytest.raises(
        DataError, match=r'validation = 0\.01 of 20 .* set data\.validation = 0 and select = "last"'
    ):
        check_split([10, 10], 0.01, key="validation", place="data (x)")
    check_split([10, 10], 0.0, key="validation", place="data (x)")
    check_split([10, 10], 0.1, key="validation", place="data (x)")
    with pytest.raises(DataError, match="holds out no image"):
        check_split([1, 1, 1], 0.5, key="test", place="data (x)")


def random_rows(count, rates, seed):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(count, len(rates), generator=generator) < torch.tensor(rates)).float()


def distance(targets, held, share):
    """Return the mean gap between the held-out share of each class and the share asked for (Sechidis's LD)."""
    counts = targets.sum(0)
    return float((targets[held].sum(0) / counts - share).abs()[counts > 0].mean())


def test_rows_by_hand():
    # Three images of each class, two of the six to be held out. One of each class is kept beforehand. Of the other
    # two of class 0, training (3 * 2/3 - 1) and the held-out side (3 * 1/3) want one each: the first goes to
    # training, as equals do, the second is held out; so it is for class 1.
    targets = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 3)
    for seed in range(20):
        kept, held = stratified_rows_split(targets, share=1 / 3, seed=seed)
        assert targets[kept].sum(0).tolist() == [2, 2]
        assert targets[held].sum(0).tolist() == [1, 1]


def test_images_without_a_label_fill_up_both_sides():
    targets = torch.zeros(10, 2)
    targets[:4, 0] = 1
    kept, held = stratified_rows_split(targets, share=0.5, seed=0)
    assert (len(kept), len(held)) == (5, 5)
    assert targets[held].sum() == 2
    kept, held = stratified_rows_split(torch.zeros(7, 2), share=0.3, seed=0)
    assert (len(kept), len(held)) == (5, 2)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.integers(1, 60),
    st.floats(0, 0.95),
    st.integers(0, 99),
)
def test_a_split_of_rows_is_disjoint_whole_and_leaves_every_class_in_training(rates, count, share, seed):
    targets = random_rows(count, rates, seed)
    kept, held = stratified_rows_split(targets, share=share, seed=seed)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(count))
    assert torch.equal(kept, kept.sort().values)
    assert torch.equal(held, held.sort().values)
    assert torch.equal(targets[kept].sum(0) > 0, targets.sum(0) > 0)
    assert len(held) <= round(share * count)
    if count - round(share * count) >= len(rates):  # room for an image of each class beside those held out
        assert len(held) == round(share * count)


def test_a_split_of_single_labels_written_as_rows_is_stratified():
    targets = torch.eye(5)[torch.arange(200) % 5]
    _, held = stratified_rows_split(targets, share=0.2, seed=3)
    assert targets[held].sum(0).tolist() == [8] * 5


def test_rows_are_split_nearer_to_the_share_than_at_random():
    share, random, stratified = 0.2, [], []
    for seed in range(10):
        targets = random_rows(300, [0.02, 0.04, 0.06, 0.1, 0.2, 0.4, 0.7], seed)
        shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        random.append(distance(targets, shuffled[:60], share))
        stratified.append(distance(targets, stratified_rows_split(targets, share=share, seed=seed)[1], share))
    assert max(stratified) < min(random)
    assert sum(stratified) < sum(random) / 3


def test_a_split_of_rows_depends_on_its_seed_alone():
    targets = random_rows(100, [0.1, 0.3, 0.5], 0)
    first = stratified_rows_split(targets, share=0.2, seed=0)
    torch.manual_seed(99)
    again = stratified_rows_split(targets, share=0.2, seed=0)
    other = stratified_rows_split(targets, share=0.2, seed=1)
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_a_checked_split_takes_labels_and_rows_and_refuses_one_that_holds_nothing_out():
    labels = torch.arange(50) % 5
    for targets, split in ((labels, stratified_split), (torch.eye(5)[labels], stratified_rows_split)):
        settings = {"num_classes": 5} if targets.ndim == 1 else {}
        expected = split(targets, share=0.2, seed=0, **settings)
        found = checked_split(targets, num_classes=5, share=0.2, seed=0, key="test", place="data (x)")
        assert torch.equal(found[1], expected[1])
        with pytest.raises(DataError, match=r"data \(x\): test = 0\.001 of 50 .* holds out no image"):
            checked_split(targets, num_classes=5, share=0.001, seed=0, key="test", place="data (x)")
    with pytest.raises(DataError, match=r"validation = 0\.5 of 2 .*select = \"last\""):
        checked_split(torch.eye(2), num_classes=2, share=0.5, seed=0, key="validation", place="data (x)")


def test_across_classes_takes_the_classes_in_turn():
    assert interleave_classes(torch.tensor([0, 0, 0, 1, 2, 2])).tolist() == [0, 3, 4, 1, 5, 2]
    assert interleave_classes(torch.tensor([1, 0, 1])).tolist() == [1, 0, 2]
    assert interleave_classes(torch.tensor([], dtype=torch.int64)).tolist() == []


def test_images_are_drawn_from_all_classes_where_the_first_do_not_show_them() -> None:
    grouped = torch.arange(10).repeat_interleave(20)  # class by class
    positions = drawn_positions(grouped, 25)
    assert positions is not None
    assert torch.equal(positions, drawn_positions(grouped, 25))
    assert len(positions.unique()) == 25
    assert sorted(grouped[positions].bincount().tolist()) == [2] * 5 + [3] * 5
    few = drawn_positions(torch.arange(100), 5)  # fewer images than classes: not the first five classes
    assert few is not None
    assert len(few.unique()) == 5
    assert int(few.max()) > 20
    for shown in (torch.arange(10).repeat(20), torch.zeros(9, dtype=torch.int64), torch.eye(4)):
        assert drawn_positions(shown, 12) is None
