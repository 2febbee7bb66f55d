import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from kdcam.losses.cam_kd import CamKdConfig, cam_kd_loss
from kdcam.losses.kd import kd_loss
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

N, K, C = 3, 4, 5


def shapes(student: int = 8, teacher: int = 8) -> Shapes:
    return Shapes(
        "single-label", K, torch.arange(K), Widths(C, C, student, student), Widths(9, 9, teacher, teacher)
    )


def step_of(side: int = 8, teacher_side: int = 8) -> Step:
    generator = torch.Generator().manual_seed(0)
    feature_map = torch.rand(N, C, side, side, generator=generator).double().requires_grad_()
    weight = torch.randn(K, C, generator=generator).double().requires_grad_()
    bias = torch.randn(K, generator=generator).double().requires_grad_()
    embedding = feature_map.mean((2, 3))
    student = Outputs(embedding @ weight.T + bias, embedding, feature_map, weight, bias)
    cams = torch.randn(N, K, teacher_side, teacher_side, generator=generator).double() * 5
    return Step(student, TeacherOutputs(class_cams=cams), torch.arange(N), torch.arange(N), 0.5)


def cell_by_cell(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Return the loss of maps (N, K, r, r) by loops over samples and cells."""
    n, _, height, width = student.shape
    total = 0.0
    for i in range(n):
        for y in range(height):
            for x in range(width):
                p = (teacher[i, :, y, x] / temperature).softmax(0).tolist()
                q = (student[i, :, y, x] / temperature).softmax(0).tolist()
                total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / (n * height * width)


def test_hand_worked_value() -> None:
    # One cell agrees; in the other the teacher says (3/4, 1/4) and the student (1/2, 1/2).
    student = torch.zeros(1, 2, 1, 2, dtype=torch.float64)
    teacher = torch.zeros(1, 2, 1, 2, dtype=torch.float64)
    teacher[0, 0, 0, 1] = math.log(3)
    expected = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert cam_kd_loss(student, teacher, temperature=1).item() == pytest.approx(expected)


def test_value_is_the_mean_over_cells() -> None:
    student, teacher = torch.randn(2, N, K, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    loss = cam_kd_loss(student, teacher, temperature=2.5)
    assert loss.item() == pytest.approx(cell_by_cell(student, teacher, 2.5))


def test_grid_of_one_cell_is_kd() -> None:
    step = step_of(side=4, teacher_side=6)
    assert step.teacher is not None
    assert step.teacher.class_cams is not None
    loss = CamKdConfig(grids=(1,), temperature=3).build(shapes())(step)
    logits = step.teacher.class_cams.mean((2, 3))
    torch.testing.assert_close(loss, kd_loss(step.student.logits, logits, temperature=3))


def test_grids_count_alike() -> None:
    step = step_of()
    of = {grid: CamKdConfig(grids=(grid,)).build(shapes())(step) for grid in (1, 2, 8)}
    loss = CamKdConfig(grids=(8, 1, 2)).build(shapes())(step)
    torch.testing.assert_close(loss, (of[1] + of[2] + of[8]) / 3)


def test_is_zero_only_where_the_maps_say_the_same() -> None:
    maps = torch.randn(N, K, 2, 2)
    assert cam_kd_loss(maps, maps + 7.0, temperature=4).item() == pytest.approx(0, abs=1e-6)
    assert cam_kd_loss(maps, maps.flip(-1), temperature=4).item() > 1e-3  # the same logits, seen elsewhere


def test_gradient_reaches_map_and_classifier() -> None:
    step = step_of()
    CamKdConfig().build(shapes())(step).backward()
    for leaf in (step.student.feature_map, step.student.weight, step.student.bias):
        assert leaf is not None
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 2, 3, 2, 2, generator=generator).double()
    assert torch.autograd.gradcheck(
        lambda maps: cam_kd_loss(maps, teacher, temperature=4), student.requires_grad_()
    )


def test_grids_finer_than_a_map_are_refused() -> None:
    assert CamKdConfig().misfit(shapes(4, 8)) is None
    text = CamKdConfig().misfit(shapes(student=8, teacher=3))
    assert text is not None
    assert "go up to 4, more than the 3 positions" in text
    assert "the teacher's map" in text


@pytest.mark.parametrize("grids", [(), (0,), (2, 2)])
def test_wrong_grids_are_refused(grids: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match=r"grids"):
        CamKdConfig(grids=grids)
