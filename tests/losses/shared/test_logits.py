import pytest
import torch

from kdcam.losses.loss import Step
from kdcam.losses.shared.logits import compared_logits, standardize
from kdcam.models.classifier import Outputs, TeacherOutputs


def step_of(student: torch.Tensor, teacher: TeacherOutputs | None) -> Step:
    outputs = Outputs(student, torch.zeros(len(student), 1), None, None, None)
    return Step(outputs, teacher, torch.zeros(len(student)).long(), torch.arange(len(student)), 0.5)


def test_hand_worked_value() -> None:
    # Mean 2; deviation 1 with n - 1, as in the released code (with n it were 0.816).
    torch.testing.assert_close(standardize(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[-1.0, 0.0, 1.0]]))


def test_rows_have_mean_0_and_deviation_1() -> None:
    rows = standardize(5 + 3 * torch.randn(6, 10, dtype=torch.float64))
    torch.testing.assert_close(rows.mean(1), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(rows.std(1), torch.ones(6, dtype=torch.float64))


def test_shift_and_scale_of_a_row_do_not_matter() -> None:
    logits = torch.randn(6, 10)
    torch.testing.assert_close(standardize(4 * logits - 7), standardize(logits), rtol=1e-4, atol=1e-5)


def test_rows_without_deviation_give_zeros_and_no_gradient() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 4.0]], requires_grad=True)
    rows = standardize(logits)
    (rows * torch.tensor([1.0, 2.0, 5.0])).sum().backward()
    assert rows[0].tolist() == [0, 0, 0]
    assert logits.grad is not None
    assert logits.grad[0].tolist() == [0, 0, 0]
    assert logits.grad[1].abs().sum() > 0


def test_bfloat16_is_computed_in_float32() -> None:
    logits = torch.randn(6, 10).bfloat16()
    torch.testing.assert_close(standardize(logits), standardize(logits.float()))


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(standardize, (torch.randn(3, 4).double().requires_grad_(),))


def test_compared_logits_are_the_steps_own_unless_standardised() -> None:
    student, teacher = torch.randn(4, 5), torch.randn(4, 5)
    step = step_of(student, TeacherOutputs(logits=teacher))
    plain = compared_logits(step, standardized=False)
    assert plain[0] is student
    assert plain[1] is teacher
    torch.testing.assert_close(
        compared_logits(step, standardized=True), (standardize(student), standardize(teacher))
    )


def test_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="reads the teacher's outputs, and the step has none"):
        compared_logits(step_of(torch.randn(2, 3), None), standardized=False)
    with pytest.raises(ValueError, match="reads the teacher's logits, and the step has none"):
        compared_logits(step_of(torch.randn(2, 3), TeacherOutputs()), standardized=False)
