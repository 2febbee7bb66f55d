import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from kdcam.losses.focal import sigmoid_focal


def some() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(6, 5, generator=generator)
    return logits, (torch.rand(6, 5, generator=generator) < 0.3).float()


def test_hand_worked_value() -> None:
    # p = 0.75 of a present class: -0.25 * 0.25^2 * log 0.75.
    value = sigmoid_focal(torch.tensor([[math.log(3)]]), torch.tensor([[1.0]]), gamma=2.0, alpha=0.25)
    assert value.item() == pytest.approx(-0.25 * 0.0625 * math.log(0.75))


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, 0.5), (3.0, 0.9)])
def test_equals_torchvision(gamma: float, alpha: float) -> None:
    from torchvision.ops import sigmoid_focal_loss

    logits, targets = some()
    expected = sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma, reduction="mean")
    torch.testing.assert_close(sigmoid_focal(logits, targets, gamma=gamma, alpha=alpha), expected)


def test_is_half_of_binary_cross_entropy_without_focus_and_balance() -> None:
    logits, targets = some()
    plain = binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(sigmoid_focal(logits, targets, gamma=0.0, alpha=0.5), plain / 2)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("logit", [-200.0, -20.0, 0.0, 20.0, 200.0])
def test_gradient_is_finite_at_saturated_logits(gamma: float, logit: float) -> None:
    logits = torch.full((1, 2), logit, requires_grad=True)
    sigmoid_focal(logits, torch.tensor([[0.0, 1.0]]), gamma=gamma, alpha=0.25).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gradient_agrees_with_finite_differences() -> None:
    logits, targets = some()
    leaf = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: sigmoid_focal(x, targets, gamma=1.5, alpha=0.25), leaf)
