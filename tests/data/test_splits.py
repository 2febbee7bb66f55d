import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdcam.data.splits import across_classes, check_split, held_out_counts, stratified_split
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


def test_across_classes_takes_the_classes_in_turn():
    assert across_classes(torch.tensor([0, 0, 0, 1, 2, 2])).tolist() == [0, 3, 4, 1, 5, 2]
    assert across_classes(torch.tensor([1, 0, 1])).tolist() == [1, 0, 2]
    assert across_classes(torch.tensor([], dtype=torch.int64)).tolist() == []
