import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from kdcam.losses.dkd import DkdConfig, dkd_loss
from kdcam.losses.kd import kd_loss
from kdcam.losses.loss import Shapes, Step
from kdcam.losses.shared.logits import standardize
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

SHAPES = Shapes("single-label", 5, torch.arange(5), Widths(1, None, None, None), None)
LABELS = torch.tensor([0, 3, 4, 1, 1, 2])


def pair(images: int = 6, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, images, classes, generator=generator).double()
    return student, teacher


def of_probabilities(
    student: Tensor, teacher: Tensor, labels: Tensor, *, alpha: float, beta: float, temperature: float
) -> Tensor:
    """The paper's equation as it stands there, image by image."""
    total = torch.zeros(())
    for z_student, z_teacher, y in zip(student, teacher, labels.tolist(), strict=True):
        q, p = (z_student / temperature).softmax(0), (z_teacher / temperature).softmax(0)
        others = [k for k in range(len(p)) if k != y]
        target_class = p[y] * (p[y] / q[y]).log() + (1 - p[y]) * ((1 - p[y]) / (1 - q[y])).log()
        p_others, q_others = p[others] / p[others].sum(), q[others] / q[others].sum()
        other_classes = (p_others * (p_others / q_others).log()).sum()
        total = total + alpha * target_class + beta * other_classes
    return total / len(labels) * temperature**2


def test_hand_worked_value() -> None:
    student = torch.tensor([[0.25, 0.25, 0.5]]).log()
    teacher = torch.tensor([[0.5, 0.25, 0.25]]).log()
    loss = dkd_loss(student, teacher, torch.tensor([0]), alpha=1.0, beta=8.0, temperature=1.0)
    # Label against the rest: (1/2, 1/2) to (1/4, 3/4); among the rest: (1/2, 1/2) to (1/3, 2/3).
    target_class = math.log(2) / 2 + math.log(2 / 3) / 2
    other_classes = math.log(3 / 2) / 2 + math.log(3 / 4) / 2
    assert loss.item() == pytest.approx(target_class + 8 * other_classes, abs=1e-6)


@pytest.mark.parametrize(
    ("alpha", "beta", "temperature"), [(1.0, 8.0, 4.0), (0.5, 2.0, 1.0), (1.0, 0.0, 2.0)]
)
def test_equals_the_papers_equation(alpha: float, beta: float, temperature: float) -> None:
    student, teacher = pair()
    settings = {"alpha": alpha, "beta": beta, "temperature": temperature}
    torch.testing.assert_close(
        dkd_loss(student, teacher, LABELS, **settings),
        of_probabilities(student, teacher, LABELS, **settings).double(),
        rtol=1e-6,
        atol=1e-6,
    )


def test_is_kd_when_beta_is_the_teachers_doubt() -> None:
    student, teacher = pair(images=1)
    doubt = 1 - (teacher / 4).softmax(1)[0, 2].item()
    loss = dkd_loss(student, teacher, torch.tensor([2]), alpha=1.0, beta=doubt, temperature=4.0)
    torch.testing.assert_close(loss, kd_loss(student, teacher, temperature=4.0))


def test_is_zero_for_equal_logits_up_to_a_shift() -> None:
    student, _ = pair()
    loss = dkd_loss(student + 3, student, LABELS, alpha=1.0, beta=8.0, temperature=4.0)
    assert abs(loss.item()) < 1e-9


def test_other_classes_do_not_see_the_labels_logit() -> None:
    student, teacher = pair()
    raised = student.scatter_add(1, LABELS[:, None], torch.full((6, 1), 9.0).double())
    settings = {"alpha": 0.0, "beta": 1.0, "temperature": 2.0}
    torch.testing.assert_close(
        dkd_loss(raised, teacher, LABELS, **settings), dkd_loss(student, teacher, LABELS, **settings)
    )


@pytest.mark.parametrize("size", [0.0, 1e2, 1e4])
def test_finite_with_finite_gradient_for_logits_of_any_size(size: float) -> None:
    student = (size * torch.eye(5)).requires_grad_()
    teacher = size * torch.eye(5).roll(1, 0)
    loss = dkd_loss(student, teacher, torch.arange(5), alpha=1.0, beta=8.0, temperature=1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_two_classes_leave_nothing_but_the_label() -> None:
    student, teacher = pair(classes=2)
    loss = dkd_loss(student, teacher, LABELS % 2, alpha=1.0, beta=8.0, temperature=4.0)
    torch.testing.assert_close(loss, kd_loss(student, teacher, temperature=4.0))


def test_gradcheck() -> None:
    student, teacher = pair()
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: dkd_loss(z, teacher, LABELS, alpha=1.0, beta=8.0, temperature=4.0), (student,)
    )


def step_of(student: Tensor, teacher: Tensor) -> Step:
    outputs = Outputs(student, torch.zeros(len(student), 1), None, None, None)
    return Step(outputs, TeacherOutputs(logits=teacher), LABELS, torch.arange(len(student)), 0.5)


def test_module_has_the_published_settings_and_grows_in() -> None:
    config = DkdConfig()
    student, teacher = pair()
    student.requires_grad_()
    loss = config.build(SHAPES)(step_of(student, teacher))
    torch.testing.assert_close(loss, dkd_loss(student, teacher, LABELS, alpha=1.0, beta=8.0, temperature=4.0))
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert config.weight_at(0) == 0
    assert config.weight_at(10 / 240) == pytest.approx(0.5)
    assert config.weight_at(20 / 240) == 1


def test_module_standardises() -> None:
    student, teacher = pair()
    loss = DkdConfig(standardize=True, temperature=2.0).build(SHAPES)(step_of(student, 5 * teacher + 1))
    expected = dkd_loss(
        standardize(student), standardize(teacher), LABELS, alpha=1.0, beta=8.0, temperature=2.0
    )
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


def test_bfloat16_logits_are_computed_in_float32() -> None:
    student, teacher = (logits.bfloat16() for logits in pair())
    settings = {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}
    loss = dkd_loss(student, teacher, LABELS, **settings)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dkd_loss(student.float(), teacher.float(), LABELS, **settings))


@pytest.mark.parametrize(("key", "value"), [("temperature", 0.0), ("alpha", -1.0), ("beta", math.inf)])
def test_refuses_impossible_settings(key: str, value: float) -> None:
    with pytest.raises(ValidationError, match=key):
        DkdConfig.model_validate({key: value})
