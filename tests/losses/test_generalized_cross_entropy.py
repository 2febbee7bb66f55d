import math

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from kdcam.losses.generalized_cross_entropy import generalized_cross_entropy


def test_hand_worked_value() -> None:
    # Softmax 3/4 and 1/4.
    value = generalized_cross_entropy(torch.tensor([[math.log(3), 0.0]]), torch.tensor([0]), exponent=0.5)
    assert value.item() == pytest.approx((1 - 0.75**0.5) / 0.5)


def test_ends_are_cross_entropy_and_half_the_absolute_error() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5).double(), torch.arange(6) % 5
    near = generalized_cross_entropy(logits, labels, exponent=1e-6)
    torch.testing.assert_close(near, cross_entropy(logits, labels), rtol=1e-5, atol=1e-5)
    absolute = (logits.softmax(1) - one_hot(labels, 5)).abs().sum(1).mean() / 2
    torch.testing.assert_close(generalized_cross_entropy(logits, labels, exponent=1.0), absolute)


def test_rows_weigh_the_labels() -> None:
    torch.manual_seed(0)
    logits, one, other = torch.randn(6, 5), torch.arange(6) % 5, (torch.arange(6) + 2) % 5
    rows = 0.3 * one_hot(one, 5) + 0.7 * one_hot(other, 5)
    expected = 0.3 * generalized_cross_entropy(logits, one, exponent=0.7) + 0.7 * generalized_cross_entropy(
        logits, other, exponent=0.7
    )
    torch.testing.assert_close(generalized_cross_entropy(logits, rows, exponent=0.7), expected)


@pytest.mark.parametrize("logit", [-500.0, 500.0])
def test_saturated_logits_give_finite_gradients(logit: float) -> None:
    logits = torch.tensor([[logit, 0.0]], requires_grad=True)
    value = generalized_cross_entropy(logits, torch.tensor([0]), exponent=0.7)
    value.backward()
    assert value.item() == pytest.approx(0 if logit > 0 else 1 / 0.7)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gradient_agrees_with_finite_differences() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 4, 2])
    assert torch.autograd.gradcheck(lambda x: generalized_cross_entropy(x, labels, exponent=0.7), logits)
