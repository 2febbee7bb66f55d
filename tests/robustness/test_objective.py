"""Tests of kdcam.robustness.objective."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from kdcam.robustness.objective import attack_loss, is_fooled, right_decisions


def test_labels_have_the_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    for reduction in ("none", "sum"):
        expected = cross_entropy(logits, labels, reduction=reduction)
        assert torch.equal(attack_loss(logits, labels, reduction=reduction), expected)


def test_rows_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    rows = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    # ln 2 + ln(1 + e^2); ln(1 + e^-1) + ln 2
    expected = torch.tensor([0.693147 + 2.126928, 0.313262 + 0.693147])
    torch.testing.assert_close(attack_loss(logits, rows, reduction="none"), expected)
    torch.testing.assert_close(attack_loss(logits, rows, reduction="sum"), expected.sum())
    assert attack_loss(logits.double(), rows, reduction="sum").dtype == torch.float64


def test_an_image_of_several_labels_is_fooled_when_nothing_is_right() -> None:
    logits = torch.tensor([[1.0, -1.0], [1.0, -1.0], [1.0, -1.0]])
    rows = torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    assert right_decisions(logits, rows).tolist() == [[False, False], [True, False], [True, True]]
    assert is_fooled(logits, rows).tolist() == [True, False, False]


@pytest.mark.parametrize(("label", "fooled"), [(0, False), (1, True)])
def test_an_image_of_one_label_is_fooled_when_another_is_on_top(label: int, fooled: bool) -> None:
    assert is_fooled(torch.tensor([[2.0, 1.0]]), torch.tensor([label])).tolist() == [fooled]
