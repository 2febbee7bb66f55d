"""Tests of kdcam.attacks.objective."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from kdcam.attacks.objective import (
    ATTACK_LOSSES,
    AttackGoal,
    attack_loss,
    dlr_loss,
    is_clearly_fooled,
    is_fooled,
    margin_loss,
    right_decisions,
    targeted_dlr_loss,
)
from kdcam.errors import ModelError


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


LOGITS = torch.tensor([[4.0, 1.0, 3.0, 0.0], [1.0, 5.0, 2.0, 4.0]])
LABELS = torch.tensor([0, 2])


def test_margins_and_ratios_by_hand() -> None:
    assert margin_loss(LOGITS, LABELS).tolist() == [-1, 3]
    # Over z1 - z3: 4 - 1 and 5 - 2.
    torch.testing.assert_close(dlr_loss(LOGITS, LABELS), torch.tensor([-1 / 3, 1.0]))
    # z_aim - z_label over z1 - (z3 + z4) / 2: (1 - 4) / 3.5 and (4 - 2) / 3.5.
    found = targeted_dlr_loss(LOGITS, LABELS, torch.tensor([1, 3]))
    torch.testing.assert_close(found, torch.tensor([-3 / 3.5, 2 / 3.5]))
    goal = AttackGoal("dlr", LABELS, torch.tensor([1, 3]))
    assert torch.equal(goal.losses(LOGITS), found)
    assert torch.equal(goal.of(torch.tensor([1])).losses(LOGITS[1:]), found[1:])


def test_ratios_know_neither_shift_nor_scale_and_margins_no_shift() -> None:
    logits, labels = torch.randn(20, 6).double(), torch.arange(20) % 6
    aims = (labels + 1) % 6
    moved = 1000 * logits + 7
    torch.testing.assert_close(dlr_loss(moved, labels), dlr_loss(logits, labels))
    torch.testing.assert_close(
        targeted_dlr_loss(moved, labels, aims), targeted_dlr_loss(logits, labels, aims)
    )
    torch.testing.assert_close(margin_loss(logits + 7, labels), margin_loss(logits, labels))


@pytest.mark.parametrize("loss", ATTACK_LOSSES)
def test_gradients_are_right_and_finite_where_logits_are_equal(loss: str) -> None:
    logits, labels = torch.randn(4, 5).double().requires_grad_(), torch.tensor([0, 1, 2, 3])
    assert torch.autograd.gradcheck(lambda values: ATTACK_LOSSES[loss](values, labels), logits)
    equal = torch.zeros(4, 5, requires_grad=True)
    ATTACK_LOSSES[loss](equal, labels).sum().backward()
    assert equal.grad.isfinite().all()


@pytest.mark.parametrize("loss", ["margin", "dlr"])
def test_losses_are_above_zero_where_another_class_is_on_top(loss: str) -> None:
    logits, labels = torch.randn(50, 5), torch.arange(50) % 5
    assert torch.equal(ATTACK_LOSSES[loss](logits, labels) > 0, is_fooled(logits, labels))


def test_too_few_classes_are_named() -> None:
    with pytest.raises(ModelError, match="the DLR loss needs at least 3 classes, found 2; take cw-margin"):
        dlr_loss(LOGITS[:, :2], LABELS.clamp(max=1))
    with pytest.raises(
        ModelError, match="the targeted DLR loss needs at least 4 classes, found 3; take apgd-dlr"
    ):
        targeted_dlr_loss(LOGITS[:, :3], LABELS, LABELS)


@pytest.mark.parametrize(
    ("logits", "low", "high"),
    [
        ([3.0, 2.0, 1.0, 0.0], -1, 0),  # the label on top
        ([2.0, 3.0, 1.0, 0.0], 0, 1),  # second
        ([1.0, 3.0, 2.0, 0.0], 1, 1),  # third
        ([-70.0, 3.0, 2.0, 1.0], 36, 37),  # below: 73 over 2
    ],
)
def test_the_ratio_has_no_upper_end(logits: list[float], low: float, high: float) -> None:
    assert low <= dlr_loss(torch.tensor([logits]), torch.tensor([0])).item() <= high


def test_what_rounding_can_take_back_is_not_clearly_fooled() -> None:
    offsets = torch.tensor([-1.0, 0.0, 5e-5, 2e-4, 1.0])
    logits = torch.stack([torch.ones(5), 1 + offsets, torch.zeros(5)], dim=1)
    labels = torch.zeros(5, dtype=torch.int64)
    assert is_fooled(logits, labels).tolist() == [False, False, True, True, True]
    for scale in (1e-20, 1.0, 1e6):
        assert is_clearly_fooled(scale * logits, labels).tolist() == [False, False, False, True, True]
    for shift in (-0.5, 100.0):
        assert is_clearly_fooled(logits + shift, labels).tolist() == [False, False, False, True, True]
    rows = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    decisions = torch.tensor([[-1.0, 1.0], [-1.0, 5e-5], [-5e-5, 1.0], [1.0, 1.0]])
    assert is_fooled(decisions, rows).tolist() == [True, True, True, False]
    assert is_clearly_fooled(decisions, rows).tolist() == [True, False, False, False]


def test_labels_beyond_the_logits_are_named() -> None:
    goal = AttackGoal("margin", torch.tensor([0, 7]), last_label=7)
    with pytest.raises(ValueError, match="hold the label 7, but the network gives logits of 4 classes"):
        goal.losses(LOGITS)
