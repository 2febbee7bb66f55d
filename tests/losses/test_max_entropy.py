import math

import pytest
import torch

from kdcam.losses.max_entropy import max_entropy


def test_hand_worked_value_and_bounds() -> None:
    value = max_entropy(torch.tensor([[math.log(3), 0.0]]))
    assert value.item() == pytest.approx(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert max_entropy(torch.zeros(2, 5)).item() == pytest.approx(-math.log(5))
    assert max_entropy(torch.tensor([[500.0, 0.0]])).item() == pytest.approx(0)


def test_shifting_logits_changes_nothing() -> None:
    logits = torch.randn(3, 4)
    torch.testing.assert_close(max_entropy(logits + 7), max_entropy(logits))


def test_gradient_agrees_with_finite_differences_and_is_finite_when_saturated() -> None:
    assert torch.autograd.gradcheck(max_entropy, torch.randn(4, 5, dtype=torch.float64, requires_grad=True))
    sure = torch.tensor([[500.0, 0.0]], requires_grad=True)
    max_entropy(sure).backward()
    assert sure.grad is not None
    assert torch.isfinite(sure.grad).all()
