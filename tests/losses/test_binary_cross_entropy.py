import math

import pytest
import torch

from kdcam.losses.binary_cross_entropy import binary_cross_entropy


def test_hand_worked_value() -> None:
    # Probabilities 0.75 and 0.5 of a present and an absent class.
    value = binary_cross_entropy(torch.tensor([[math.log(3), 0.0]]), torch.tensor([[1.0, 0.0]]))
    assert value.item() == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)


def test_saturated_logits_are_finite_in_half_precision() -> None:
    logits = torch.tensor([[300.0, -300.0]], dtype=torch.bfloat16, requires_grad=True)
    value = binary_cross_entropy(logits, torch.tensor([[0.0, 1.0]]))
    value.backward()
    assert value.item() == pytest.approx(300, rel=0.01)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
