import math

import pytest
import torch
import torch.nn.functional as F
from timm.loss import LabelSmoothingCrossEntropy

from kdcam.losses.cross_entropy import cross_entropy


def test_hand_worked_value() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]))
    assert cross_entropy(logits, torch.tensor([0, 1]), label_smoothing=0.0).item() == pytest.approx(
        -(math.log(0.7) + math.log(0.3)) / 2
    )


def test_label_smoothing_equals_timm() -> None:
    logits, targets = torch.randn(16, 10), torch.randint(10, (16,))
    ours = cross_entropy(logits, targets, label_smoothing=0.1)
    torch.testing.assert_close(ours, LabelSmoothingCrossEntropy(0.1)(logits, targets))


def test_rows_of_one_label_equal_labels() -> None:
    logits, targets = torch.randn(8, 5), torch.randint(5, (8,))
    rows = F.one_hot(targets, 5).float()
    for smoothing in (0.0, 0.2):
        torch.testing.assert_close(
            cross_entropy(logits, rows, label_smoothing=smoothing),
            cross_entropy(logits, targets, label_smoothing=smoothing),
        )


def test_mixed_rows_are_the_mixture_of_losses() -> None:
    logits = torch.randn(4, 5)
    first, second = torch.randint(5, (4,)), torch.randint(5, (4,))
    rows = 0.3 * F.one_hot(first, 5).float() + 0.7 * F.one_hot(second, 5).float()
    mixture = 0.3 * F.cross_entropy(logits, first) + 0.7 * F.cross_entropy(logits, second)
    torch.testing.assert_close(cross_entropy(logits, rows, label_smoothing=0.0), mixture)


def test_shift_of_logits_changes_nothing() -> None:
    logits, targets = torch.randn(4, 5), torch.randint(5, (4,))
    torch.testing.assert_close(
        cross_entropy(logits + 7, targets, label_smoothing=0.1),
        cross_entropy(logits, targets, label_smoothing=0.1),
    )
