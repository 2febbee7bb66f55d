import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import cross_entropy

from kdcam.losses.gradient_boosting_cross_entropy import (
    GradientBoostingCrossEntropyConfig,
    gradient_boosting_cross_entropy,
)
from kdcam.losses.loss import Shapes
from kdcam.models.classifier import Widths


def sizes_of(num_classes: int) -> Shapes:
    sizes = Widths(4, 4, 2, 2)
    return Shapes("single-label", num_classes, torch.empty(0, dtype=torch.int64), sizes, None)


def some() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(6, 5, dtype=torch.float64, generator=generator), torch.arange(6) % 5


def looped(logits: Tensor, labels: Tensor, negatives: int) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        wrong = sorted((x for j, x in enumerate(row) if j != label), reverse=True)[:negatives]
        total += math.log(sum(math.exp(x) for x in [row[label], *wrong])) - row[label]
    return total / len(logits)


def test_hand_worked_value() -> None:
    # Odds 3, 2, 6, 1 with the second the label: against the two strongest others it has 2 of 11.
    logits = torch.tensor([[3.0, 2.0, 6.0, 1.0]]).log()
    value = gradient_boosting_cross_entropy(logits, torch.tensor([1]), negatives=2)
    assert value.item() == pytest.approx(-math.log(2 / 11))


@pytest.mark.parametrize("negatives", [1, 2, 3])
def test_equals_a_loop(negatives: int) -> None:
    logits, labels = some()
    value = gradient_boosting_cross_entropy(logits, labels, negatives=negatives)
    assert value.item() == pytest.approx(looped(logits, labels, negatives), rel=1e-12)


@pytest.mark.parametrize("negatives", [4, 15])
def test_with_all_negatives_it_is_cross_entropy(negatives: int) -> None:
    logits, labels = some()
    logits.requires_grad_()
    value = gradient_boosting_cross_entropy(logits, labels, negatives=negatives)
    torch.testing.assert_close(value, cross_entropy(logits, labels))
    (gradient,) = torch.autograd.grad(value, logits)
    (expected,) = torch.autograd.grad(cross_entropy(logits, labels), logits)
    torch.testing.assert_close(gradient, expected)


def test_weaker_classes_have_no_gradient() -> None:
    logits = torch.tensor([[3.0, 2.0, 6.0, 1.0]], requires_grad=True)
    gradient_boosting_cross_entropy(logits, torch.tensor([1]), negatives=2).backward()
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, True, True, False]]


def test_shift_of_logits_changes_nothing() -> None:
    logits, labels = some()
    torch.testing.assert_close(
        gradient_boosting_cross_entropy(logits + 7, labels, negatives=2),
        gradient_boosting_cross_entropy(logits, labels, negatives=2),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saturated_logits_give_finite_gradients(dtype: torch.dtype) -> None:
    logits, labels = some()
    logits = (1000 * logits).to(dtype).requires_grad_()
    value = gradient_boosting_cross_entropy(logits, labels, negatives=2)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gradient_agrees_with_finite_differences() -> None:
    logits, labels = some()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: gradient_boosting_cross_entropy(x, labels, negatives=2), logits)


@pytest.mark.parametrize(
    ("negatives", "classes", "way_out"),
    [
        (15, 10, "give negatives = 8 at most, or take cross_entropy"),
        (1, 2, "cross-entropy; take cross_entropy"),
    ],
)
def test_negatives_that_leave_no_class_out_are_refused(negatives: int, classes: int, way_out: str) -> None:
    reason = GradientBoostingCrossEntropyConfig(negatives=negatives).misfit(sizes_of(classes))
    assert reason is not None
    assert f"negatives = {negatives} with {classes} classes" in reason
    assert way_out in reason
    assert GradientBoostingCrossEntropyConfig(negatives=negatives).misfit(sizes_of(negatives + 2)) is None


def test_no_negatives_are_refused() -> None:
    with pytest.raises(ValidationError, match="negatives"):
        GradientBoostingCrossEntropyConfig(negatives=0)
