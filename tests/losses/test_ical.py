import math

import pytest
import torch
from torch import Tensor

from kdcam.losses.ical import IcalConfig, ical
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, Widths
from kdcam.runtime.numerics import unit_rows

# Directions (1, 0), (0, 1) and (0.6, 0.8): cosines 0, 0.6 and 0.8.
WEIGHT = torch.tensor([[2.0, 0.0], [0.0, 5.0], [0.3, 0.4]])


def looped(weight: Tensor) -> float:
    rows = weight.tolist()
    total = 0.0
    for one in rows:
        for other in rows:
            dot = sum(a * b for a, b in zip(one, other, strict=True))
            total += dot / math.hypot(*one) / math.hypot(*other)
    return total / len(rows) ** 2


def test_hand_worked_value() -> None:
    assert ical(WEIGHT).item() == pytest.approx((3 + 2 * (0.0 + 0.6 + 0.8)) / 9)


def test_equals_a_double_loop() -> None:
    weight = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert ical(weight).item() == pytest.approx(looped(weight), rel=1e-12)


def test_is_one_for_equal_rows_and_zero_where_they_cancel() -> None:
    assert ical(torch.tensor([[1.0, 2.0], [3.0, 6.0]])).item() == pytest.approx(1)
    assert ical(torch.tensor([[1.0, 2.0], [-3.0, -6.0]])).item() == pytest.approx(0, abs=1e-12)


def test_lengths_of_rows_do_not_matter() -> None:
    longer = WEIGHT * torch.tensor([[1e-6], [1.0], [1e6]])
    torch.testing.assert_close(ical(longer), ical(WEIGHT))


def test_gradient_agrees_with_finite_differences() -> None:
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(ical, weight)


def test_gradient_at_unit_rows_is_the_released_codes_without_its_part_along_the_row() -> None:
    weight = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(ical(weight), weight)
    rows = weight.detach()
    # |sum of v|^2 / K^2 without a norm, as that code differentiates it; its next normalisation drops the radial part.
    theirs = (2 * rows.sum(0) / 25).expand_as(rows)
    across = theirs - (theirs * rows).sum(1, keepdim=True) * rows
    torch.testing.assert_close(gradient, across)


def test_a_row_of_zeros_has_no_direction_and_no_gradient() -> None:
    weight = torch.tensor([[0.0, 0.0], [0.0, 2.0]], requires_grad=True)
    assert unit_rows(weight).tolist() == [[0.0, 0.0], [0.0, 1.0]]
    ical(weight).backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_half_precision_is_widened() -> None:
    weight = torch.randn(100, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert ical(weight).dtype == torch.float32
    torch.testing.assert_close(ical(weight), ical(weight.float()))


def test_reads_the_students_classifier_and_no_target() -> None:
    module = IcalConfig().build(Shapes("single-label", 3, torch.arange(3), Widths(2, 2, 2, 2), None))
    embedding = torch.rand(4, 2)
    for targets in (torch.arange(4) % 3, torch.rand(4, 3)):
        student = Outputs(embedding @ WEIGHT.T, embedding, None, WEIGHT, None)
        step = Step(student, None, targets, torch.arange(4), 0.5)
        assert torch.equal(module(step), ical(WEIGHT))
    with pytest.raises(ValueError, match="classifier's weight"):
        module(step._replace(student=student._replace(weight=None)))
