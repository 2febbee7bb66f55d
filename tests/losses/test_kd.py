import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchdistill.losses.mid_level import LogitStdKDLoss

from kdcam.losses.kd import KdConfig, kd_loss
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

SHAPES = Shapes("single-label", 10, torch.arange(10), Widths(1, None, None, None), None)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_equals_the_closed_form(temperature: float) -> None:
    student, teacher = torch.randn(6, 10).double(), torch.randn(6, 10).double()
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    by_hand = (p * (p / q).log()).sum(1).mean() * temperature**2
    assert kd_loss(student, teacher, temperature=temperature).item() == pytest.approx(
        by_hand.item(), rel=1e-5
    )


def test_equals_torch_with_batchmean_not_mean() -> None:
    student, teacher = torch.randn(6, 10), torch.randn(6, 10)
    reference = F.kl_div((student / 4).log_softmax(1), (teacher / 4).softmax(1), reduction="batchmean") * 16
    torch.testing.assert_close(kd_loss(student, teacher, temperature=4.0), reference)


def test_is_zero_for_equal_logits_up_to_a_shift() -> None:
    logits = torch.randn(6, 10).double()
    assert abs(kd_loss(logits + 3, logits, temperature=4.0).item()) < 1e-6


def test_gradient_is_the_difference_of_probabilities() -> None:
    student = torch.randn(5, 7, requires_grad=True)
    teacher = torch.randn(5, 7)
    kd_loss(student, teacher, temperature=2.0).backward()
    # d/dz of T^2 KL at temperature T is T (q - p) / N
    expected = 2 * ((student.detach() / 2).softmax(1) - (teacher / 2).softmax(1)) / 5
    torch.testing.assert_close(student.grad, expected)


def test_bfloat16_logits_are_computed_in_float32() -> None:
    student, teacher = torch.randn(6, 10).bfloat16(), torch.randn(6, 10).bfloat16()
    loss = kd_loss(student, teacher, temperature=4.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, kd_loss(student.float(), teacher.float(), temperature=4.0))


def test_gradcheck() -> None:
    student, teacher = torch.randn(3, 4).double().requires_grad_(), torch.randn(3, 4).double()
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, teacher, temperature=2.0), (student,))


def step_of(student: torch.Tensor, teacher: torch.Tensor) -> Step:
    outputs = Outputs(student, torch.zeros(len(student), 1), None, None, None)
    labels = torch.zeros(len(student)).long()
    return Step(outputs, TeacherOutputs(logits=teacher), labels, torch.arange(len(student)), 0.5)


def built(**settings: float | bool) -> nn.Module:
    return KdConfig.model_validate(settings).build(SHAPES)


def test_plain_is_bit_identical_to_the_function() -> None:
    student, teacher = torch.randn(6, 10), torch.randn(6, 10)
    loss = built(temperature=4.0)(step_of(student, teacher))
    assert torch.equal(loss, kd_loss(student, teacher, temperature=4.0))


@pytest.mark.parametrize("temperature", [2.0, 4.0])
def test_standardised_equals_torchdistill(temperature: float) -> None:
    student, teacher = 2 * torch.randn(6, 10).double() + 1, 7 * torch.randn(6, 10).double()
    loss = built(temperature=temperature, standardize=True)(step_of(student, teacher))
    reference = LogitStdKDLoss("net", "output", "net", "output", temperature, beta=1.0)
    expected = reference({"net": {"output": student}}, {"net": {"output": teacher}}) * temperature**2
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


def test_standardised_does_not_see_the_scale_of_logits() -> None:
    logits = torch.randn(6, 10)
    step = step_of(3 * logits + 2, logits)
    assert built(standardize=True)(step).item() == pytest.approx(0, abs=1e-5)
    assert built(standardize=False)(step).item() > 0.1


def test_standardised_zero_logits_have_a_finite_gradient() -> None:
    student = torch.zeros(4, 5, requires_grad=True)
    built(standardize=True)(step_of(student, torch.randn(4, 5))).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1
