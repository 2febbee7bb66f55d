import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torchdistill.losses.mid_level import CCKDLoss

from kdcam.losses.correlation_congruence import (
    CorrelationCongruence,
    CorrelationCongruenceConfig,
    kernel_congruence,
    neighbour_congruence,
)
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

SHAPES = Shapes("single-label", 3, torch.arange(3), Widths(4, 4, 1, 1), Widths(6, 6, 1, 1))


def embedded(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(5, 3, generator=generator).to(dtype).requires_grad_() for _ in range(2))
    return student, teacher


def step_of(dtype: torch.dtype = torch.float32) -> Step:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 4, generator=generator).to(dtype).requires_grad_()
    teacher = TeacherOutputs(embedding=torch.randn(6, 6, generator=generator).to(dtype))
    outputs = Outputs(student, student, None, None, None)
    return Step(outputs, teacher, torch.arange(6) % 3, torch.arange(6), 0.5)


def test_hand_worked_value_of_neighbours() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    # differences (1, 0), (0, 2), (3, 1): products 0 + 0 and 0 + 2
    assert neighbour_congruence(student, torch.zeros(3, 2)).item() == 1


def test_neighbours_equal_a_loop_over_images() -> None:
    student, teacher = (tensor.detach() for tensor in embedded())
    total = 0.0
    for i in range(4):
        for e in range(3):
            total += abs(float(student[i, e] - teacher[i, e])) * abs(
                float(student[i + 1, e] - teacher[i + 1, e])
            )
    assert neighbour_congruence(student, teacher).item() == pytest.approx(total / 4, rel=1e-12)


def test_a_single_image_has_no_neighbours() -> None:
    assert neighbour_congruence(torch.ones(1, 3), torch.zeros(1, 3)).item() == 0


def test_kernel_equals_a_double_loop() -> None:
    student, teacher = (tensor.detach() for tensor in embedded())

    def kernel(a: Tensor, b: Tensor) -> float:
        cosine = float(torch.cosine_similarity(a, b, dim=0))
        return math.exp(-0.8) * (1 + 0.8 * cosine + 0.32 * cosine**2 + 0.8**3 / 6 * cosine**3)

    total = sum(
        (kernel(student[i], student[j]) - kernel(teacher[i], teacher[j])) ** 2
        for i in range(5)
        for j in range(5)
    )
    found = kernel_congruence(student, teacher, gamma=0.4, order=3).item()
    assert found == pytest.approx(total / 25, rel=1e-12)


def test_a_high_order_is_the_gaussian_kernel() -> None:
    student, teacher = (torch.nn.functional.normalize(tensor) for tensor in embedded())
    gaussians = [(-0.4 * torch.cdist(x, x).square()).exp() for x in (student, teacher)]
    expected = (gaussians[0] - gaussians[1]).square().mean()
    torch.testing.assert_close(
        kernel_congruence(student, teacher, gamma=0.4, order=12), expected, rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("order", [1, 2, 3])
def test_kernel_equals_torchdistill_which_does_not_square(order: int) -> None:
    student, teacher = (torch.nn.functional.normalize(tensor) for tensor in embedded())
    settings = {"type": "gaussian", "gamma": 0.4, "max_p": order}
    reference = CCKDLoss("linear", "linear", settings, "sum")(
        {"linear": {"output": student}}, {"linear": {"output": teacher}}
    )
    found = kernel_congruence(student, teacher, gamma=0.4, order=order)
    torch.testing.assert_close(found, reference**2 / 25, rtol=1e-6, atol=0)


def test_gradients_agree_with_finite_differences() -> None:
    assert torch.autograd.gradcheck(neighbour_congruence, embedded())
    assert torch.autograd.gradcheck(lambda s, t: kernel_congruence(s, t, gamma=0.4, order=2), embedded())


def test_half_precision_is_worked_out_in_float32() -> None:
    student, teacher = (tensor.detach() for tensor in embedded(torch.bfloat16))
    with torch.autocast("cpu", torch.bfloat16):
        rough = kernel_congruence(student, teacher, gamma=0.4, order=2)
    assert rough.item() == kernel_congruence(student.float(), teacher.float(), gamma=0.4, order=2).item()
    assert (
        neighbour_congruence(student, teacher).item()
        == neighbour_congruence(student.float(), teacher.float()).item()
    )


@pytest.mark.parametrize("form", ["neighbours", "kernel"])
def test_the_loss_embeds_both_sides_and_trains_both_layers(form: Any) -> None:
    module = CorrelationCongruenceConfig(form=form, embedding_width=5).build(SHAPES)
    assert isinstance(module, CorrelationCongruence)
    step = step_of()
    assert step.teacher is not None
    assert step.teacher.embedding is not None
    student, teacher = (
        module.student_layer(step.student.embedding),
        module.teacher_layer(step.teacher.embedding),
    )
    expected = (
        neighbour_congruence(student, teacher)
        if form == "neighbours"
        else kernel_congruence(student, teacher, gamma=0.4, order=2)
    )
    loss = module(step)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert step.student.embedding.grad is not None
    assert step.student.embedding.grad.abs().sum() > 0
    assert step.teacher.embedding.grad is None
    assert module.teacher_layer.weight.shape == (5, 6)
    for layer in (module.student_layer, module.teacher_layer):
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().sum() > 0


def test_bfloat16_outputs_under_autocast() -> None:
    module = CorrelationCongruenceConfig().build(SHAPES)
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(step_of(torch.bfloat16))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, module(step_of()), rtol=0.05, atol=0.02)


def test_published_constants_are_the_defaults() -> None:
    config = CorrelationCongruenceConfig()
    assert (config.weight, config.embedding_width, config.form) == (0.02, 128, "neighbours")


@pytest.mark.parametrize("changes", [{"gamma": 0.5}, {"order": 3}])
def test_the_kernels_keys_without_the_kernel_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match='gamma and order are of form = "kernel"'):
        CorrelationCongruenceConfig(**changes)
    assert CorrelationCongruenceConfig(form="kernel", **changes).form == "kernel"
