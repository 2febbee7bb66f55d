import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from timm.loss import LabelSmoothingCrossEntropy

from kdcam.losses.cross_entropy import CrossEntropyConfig, cross_entropy
from kdcam.losses.loss import Shapes, Step
from kdcam.losses.shared.class_balance import class_weights
from kdcam.models.classifier import Outputs, Widths

WEIGHTS = torch.tensor([0.25, 0.5, 1.0, 1.25, 2.0])


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


def step_of(logits: torch.Tensor, targets: torch.Tensor) -> Step:
    return Step(
        Outputs(logits, logits, None, None, None), None, targets, torch.arange(len(logits)), progress=0.5
    )


def test_class_weights_hand_worked() -> None:
    logits = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]))
    value = cross_entropy(
        logits, torch.tensor([0, 1]), label_smoothing=0.0, class_weights=torch.tensor([0.5, 1.5, 1.0])
    )
    assert value.item() == pytest.approx(-(0.5 * math.log(0.7) + 1.5 * math.log(0.3)) / 2)


def test_class_weights_equal_torch_but_for_its_divisor() -> None:
    logits, targets = torch.randn(8, 5), torch.randint(5, (8,))
    ours = cross_entropy(logits, targets, label_smoothing=0.0, class_weights=WEIGHTS)
    theirs = F.cross_entropy(logits, targets, weight=WEIGHTS)
    torch.testing.assert_close(ours, theirs * WEIGHTS[targets].sum() / 8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_weigh_an_images_whole_cross_entropy(smoothing: float) -> None:
    logits, first, second = torch.randn(8, 5), torch.randint(5, (8,)), torch.randint(5, (8,))
    each = F.cross_entropy(logits, first, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(
        cross_entropy(logits, first, label_smoothing=smoothing, class_weights=WEIGHTS),
        (WEIGHTS[first] * each).mean(),
    )
    rows = 0.3 * F.one_hot(first, 5) + 0.7 * F.one_hot(second, 5)
    each = F.cross_entropy(logits, rows, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(
        cross_entropy(logits, rows, label_smoothing=smoothing, class_weights=WEIGHTS),
        ((0.3 * WEIGHTS[first] + 0.7 * WEIGHTS[second]) * each).mean(),
    )


def test_even_class_weights_change_nothing() -> None:
    logits, targets = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(
        cross_entropy(logits, targets, label_smoothing=0.1, class_weights=torch.ones(5)),
        cross_entropy(logits, targets, label_smoothing=0.1),
    )


def test_weighted_gradient_agrees_with_finite_differences() -> None:
    logits, targets = torch.randn(4, 5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 4, 2])
    weights = WEIGHTS.double()
    assert torch.autograd.gradcheck(
        lambda x: cross_entropy(x, targets, label_smoothing=0.1, class_weights=weights), logits
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saturated_logits_give_finite_weighted_gradients(dtype: torch.dtype) -> None:
    logits = (1000 * torch.randn(8, 5)).to(dtype).requires_grad_()
    value = cross_entropy(logits, torch.arange(8) % 5, label_smoothing=0.0, class_weights=WEIGHTS)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_class_balance_beta_weighs_by_the_training_labels_and_keeps_no_state() -> None:
    shapes = Shapes("single-label", 5, torch.tensor([0, 0, 0, 1, 2, 2, 3]), Widths(4, 4, 2, 2), None)
    module = CrossEntropyConfig(class_balance_beta=0.9).build(shapes)
    logits, targets = torch.randn(8, 5), torch.arange(8) % 4
    weights = class_weights(torch.tensor([3, 1, 2, 1, 0]), 0.9).float()
    expected = cross_entropy(logits, targets, label_smoothing=0.0, class_weights=weights)
    assert torch.equal(module(step_of(logits, targets)), expected)
    assert not module.state_dict()
    off = CrossEntropyConfig().build(shapes)
    assert torch.equal(off(step_of(logits, targets)), F.cross_entropy(logits, targets))


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_a_beta_outside_is_refused(beta: float) -> None:
    with pytest.raises(ValidationError, match="class_balance_beta"):
        CrossEntropyConfig(class_balance_beta=beta)
