import pytest
import torch

from kdcam.errors import DataError
from kdcam.losses.crd import OtherClasses, past_a_block

LABELS = torch.tensor([2, 0, 2, 3, 0, 2])  # class 1 has no image


def test_ranks_skip_their_own_block() -> None:
    starts, counts = torch.tensor([[0], [2], [4]]), torch.tensor([[2], [0], [1]])
    found = past_a_block(torch.arange(4).expand(3, 4), starts, counts)
    assert found.tolist() == [[2, 3, 4, 5], [0, 1, 2, 3], [0, 1, 2, 3]]
    assert past_a_block(torch.tensor([[4]]), torch.tensor([[4]]), torch.tensor([[1]])).item() == 5


def test_every_image_of_another_class_is_drawn_about_as_often_and_no_other() -> None:
    torch.manual_seed(0)
    drawn = OtherClasses(LABELS, 4)(torch.tensor([0, 2, 3, 1]), 60_000)
    for row, label in zip(drawn, [0, 2, 3, 1], strict=True):
        counts = torch.bincount(row, minlength=6)
        others = LABELS.ne(label)
        assert (counts[~others] == 0).all()
        even = 60_000 / int(others.sum())
        assert (counts[others] - even).abs().max() < 5 * even**0.5


def test_each_row_has_draws_of_its_own_and_follows_the_seed() -> None:
    other_classes, targets = OtherClasses(LABELS, 4), torch.tensor([0, 0])
    torch.manual_seed(3)
    first = other_classes(targets, 50)
    assert not torch.equal(first[0], first[1])
    torch.manual_seed(3)
    assert torch.equal(first, other_classes(targets, 50))


def test_it_leaves_nothing_in_the_state() -> None:
    assert not OtherClasses(LABELS, 4).state_dict()


def test_a_class_with_all_images_is_refused() -> None:
    with pytest.raises(DataError, match="all 3 training images are of class 1"):
        OtherClasses(torch.ones(3, dtype=torch.long), 4)
