import math

import pytest
import torch

from kdcam.losses.guided_complement_entropy import GuidedComplementEntropyConfig, guided_complement_entropy
from kdcam.losses.loss import Shapes
from kdcam.models.classifier import Widths


def test_hand_worked_value() -> None:
    # Softmax 1/2, 3/8, 1/8: the wrong classes share their half as 3/4 and 1/4.
    logits = torch.tensor([[4.0, 3.0, 1.0]]).log()
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    value = guided_complement_entropy(logits, torch.tensor([0]), alpha=1 / 3)
    assert value.item() == pytest.approx(-(0.5 ** (1 / 3)) * entropy / math.log(3))


def test_bounds_are_a_sure_label_with_even_others_and_one_wrong_class() -> None:
    even = torch.tensor([[50.0, 0.0, 0.0, 0.0]])
    value = guided_complement_entropy(even, torch.tensor([0]), alpha=1 / 3)
    assert value.item() == pytest.approx(-math.log(3) / math.log(4))
    one = torch.tensor([[0.0, 200.0, 0.0, 0.0]])
    assert guided_complement_entropy(one, torch.tensor([0]), alpha=1 / 3).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("logit", [-300.0, 0.0, 300.0])
def test_saturated_logits_give_finite_gradients(logit: float) -> None:
    logits = torch.tensor([[logit, 0.0, 1.0]], requires_grad=True)
    guided_complement_entropy(logits, torch.tensor([0]), alpha=1 / 3).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gradient_agrees_with_finite_differences() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 4, 2])
    assert torch.autograd.gradcheck(lambda x: guided_complement_entropy(x, labels, alpha=1 / 3), logits)


def sizes_of(num_classes: int) -> Shapes:
    sizes = Widths(4, 4, 2, 2)
    return Shapes("single-label", num_classes, torch.empty(0, dtype=torch.int64), sizes, None)


def test_two_classes_are_refused() -> None:
    reason = GuidedComplementEntropyConfig().misfit(sizes_of(2))
    assert reason is not None
    assert "take cross_entropy" in reason
    assert GuidedComplementEntropyConfig().misfit(sizes_of(3)) is None
