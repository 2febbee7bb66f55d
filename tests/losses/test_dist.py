import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torchdistill.losses.mid_level import DISTLoss

from kdcam.losses.dist import DistConfig, correlation, dist_loss
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

SHAPES = Shapes("single-label", 5, torch.arange(5), Widths(1, None, None, None), None)


def pair(images: int = 6, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, images, classes, generator=generator).double()
    return student, teacher


def test_hand_worked_value() -> None:
    student = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).log()
    teacher = torch.tensor([[0.6, 0.4], [0.7, 0.3]]).log()
    # Two values correlate fully: image 0 agrees, image 1 does not; both classes fall where they should rise.
    loss = dist_loss(student, teacher, beta=3.0, gamma=5.0, temperature=1.0)
    assert loss.item() == pytest.approx(3 * (0 + 2) / 2 + 5 * 2, abs=1e-5)


@pytest.mark.parametrize(
    ("beta", "gamma", "temperature"), [(1.0, 1.0, 1.0), (2.0, 0.0, 4.0), (0.0, 2.0, 4.0)]
)
def test_equals_torchdistill(beta: float, gamma: float, temperature: float) -> None:
    student, teacher = pair(images=16, classes=10)
    reference = DISTLoss("net", "output", "net", "output", beta=beta, gamma=gamma, tau=temperature)
    expected = reference({"net": {"output": student}}, {"net": {"output": teacher}})
    loss = dist_loss(student, teacher, beta=beta, gamma=gamma, temperature=temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


def test_correlation_is_numpys() -> None:
    first, second = pair()
    rows = torch.stack([torch.corrcoef(torch.stack(two))[0, 1] for two in zip(first, second, strict=True)])
    torch.testing.assert_close(correlation(first, second, dim=1), rows)
    torch.testing.assert_close(correlation(first, 5 * second - 2, dim=1), rows)
    torch.testing.assert_close(correlation(first, -second, dim=1), -rows)


def test_is_zero_for_equal_logits_up_to_a_shift() -> None:
    student, _ = pair()
    assert dist_loss(student + 3, student, beta=1.0, gamma=1.0, temperature=1.0).item() == pytest.approx(0)


@pytest.mark.parametrize("level", [0.0, 3.3])
def test_constant_logits_count_as_uncorrelated_and_have_no_gradient(level: float) -> None:
    student = torch.full((6, 7), level, requires_grad=True)
    loss = dist_loss(student, torch.randn(6, 7), beta=1.0, gamma=1.0, temperature=4.0)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 16)
    assert student.grad is not None
    assert student.grad.abs().sum() == 0


def test_one_image_has_no_correlation_within_classes() -> None:
    student, teacher = pair(images=1)
    assert dist_loss(student, teacher, beta=0.0, gamma=1.0, temperature=1.0).item() == 1


def test_gradcheck() -> None:
    student, teacher = pair()
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: dist_loss(z, teacher, beta=1.0, gamma=2.0, temperature=4.0), (student,)
    )


def test_bfloat16_logits_are_computed_in_float32() -> None:
    student, teacher = (logits.bfloat16() for logits in pair())
    settings = {"beta": 1.0, "gamma": 1.0, "temperature": 1.0}
    loss = dist_loss(student, teacher, **settings)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, dist_loss(student.float(), teacher.float(), **settings))


def test_module_has_the_published_settings() -> None:
    student, teacher = pair()
    student.requires_grad_()
    outputs = Outputs(student, torch.zeros(6, 1), None, None, None)
    step = Step(outputs, TeacherOutputs(logits=teacher), torch.zeros(6).long(), torch.arange(6), 0.5)
    config = DistConfig()
    loss = config.build(SHAPES)(step)
    torch.testing.assert_close(loss, dist_loss(student, teacher, beta=1.0, gamma=1.0, temperature=1.0))
    loss.backward()
    assert config.weight == 2
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_refuses_a_temperature_of_zero() -> None:
    with pytest.raises(ValidationError, match="temperature"):
        DistConfig(temperature=0.0)
