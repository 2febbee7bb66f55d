import math

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from kdcam.losses.cross_entropy import cross_entropy as weighted_cross_entropy
from kdcam.losses.focal import FocalConfig, focal, sigmoid_focal
from kdcam.losses.loss import Shapes, Step
from kdcam.losses.shared.class_balance import class_weights
from kdcam.models.classifier import Outputs, Widths

WEIGHTS = torch.tensor([0.25, 0.5, 1.0, 1.25, 2.0])


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


def test_softmax_form_hand_worked() -> None:
    # Softmax 3/4 and 1/4.
    logits = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
    for label, likely in ((0, 0.75), (1, 0.25)):
        value = focal(logits, torch.tensor([label]), gamma=2.0)
        assert value.item() == pytest.approx(-((1 - likely) ** 2) * math.log(likely))


def test_softmax_form_without_focus_is_cross_entropy_for_labels_and_rows() -> None:
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    rows = 0.3 * one_hot(labels, 5) + 0.7 * one_hot(labels.roll(1), 5)
    for targets in (labels, rows):
        torch.testing.assert_close(focal(logits, targets, gamma=0.0), cross_entropy(logits, targets))


def test_rows_of_one_label_equal_labels() -> None:
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    rows = one_hot(labels, 5).float()
    torch.testing.assert_close(focal(logits, rows, gamma=1.5), focal(logits, labels, gamma=1.5))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
def test_softmax_form_has_a_finite_gradient_at_saturated_logits(gamma: float, logit: float) -> None:
    logits = torch.tensor([[logit, 0.0]], requires_grad=True)
    focal(logits, torch.tensor([0]), gamma=gamma).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_softmax_form_gradient_agrees_with_finite_differences() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: focal(x, torch.tensor([0, 1, 4, 2]), gamma=1.5), logits)


def test_class_weights_hand_worked() -> None:
    # Softmax 3/4 and 1/4; the mean is over the images, not over their weights.
    logits = torch.tensor([[math.log(3), 0.0], [math.log(3), 0.0]])
    value = focal(logits, torch.tensor([0, 1]), gamma=2.0, class_weights=torch.tensor([0.5, 1.5]))
    expected = -(0.5 * 0.25**2 * math.log(0.75) + 1.5 * 0.75**2 * math.log(0.25)) / 2
    assert value.item() == pytest.approx(expected)


def test_class_weights_weigh_labels_and_rows_as_in_cross_entropy() -> None:
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    rows = 0.3 * one_hot(labels, 5) + 0.7 * one_hot(labels.roll(1), 5)
    for targets in (labels, rows):
        torch.testing.assert_close(
            focal(logits, targets, gamma=0.0, class_weights=WEIGHTS),
            weighted_cross_entropy(logits, targets, label_smoothing=0.0, class_weights=WEIGHTS),
        )


def test_weighted_gradient_agrees_with_finite_differences() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    labels, weights = torch.tensor([0, 1, 4, 2]), WEIGHTS.double()
    assert torch.autograd.gradcheck(lambda x: focal(x, labels, gamma=1.5, class_weights=weights), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saturated_logits_give_finite_weighted_gradients(dtype: torch.dtype) -> None:
    logits = (1000 * torch.randn(8, 5)).to(dtype).requires_grad_()
    value = focal(logits, torch.arange(8) % 5, gamma=0.5, class_weights=WEIGHTS)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_class_balance_beta_weighs_by_the_training_labels_and_keeps_no_state() -> None:
    shapes = Shapes("single-label", 5, torch.tensor([0, 0, 0, 1, 2, 2, 3]), Widths(4, 4, 2, 2), None)
    module = FocalConfig(class_balance_beta=0.9).build(shapes)
    logits, targets = torch.randn(8, 5), torch.arange(8) % 4
    step = Step(Outputs(logits, logits, None, None, None), None, targets, torch.arange(8), 0.5)
    weights = class_weights(torch.tensor([3, 1, 2, 1, 0]), 0.9).float()
    assert torch.equal(module(step), focal(logits, targets, gamma=2.0, class_weights=weights))
    assert not module.state_dict()
    assert torch.equal(FocalConfig().build(shapes)(step), focal(logits, targets, gamma=2.0))


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_a_beta_outside_is_refused(beta: float) -> None:
    with pytest.raises(ValidationError, match="class_balance_beta"):
        FocalConfig(class_balance_beta=beta)
