import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from kdcam.cam.maps import class_cams
from kdcam.losses.cat_kd import CatKdConfig, cat_kd_loss
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

N, K, C = 3, 4, 5
STUDENT = torch.tensor([[[[3.0, 0.0], [0.0, 4.0]]]])
TEACHER = torch.tensor([[[[0.0, 0.0], [0.0, 2.0]]]])


def shapes(student: int = 4, teacher: int = 4) -> Shapes:
    return Shapes(
        "single-label", K, torch.arange(K), Widths(C, C, student, student), Widths(9, 9, teacher, teacher)
    )


def student_of(side: int = 4) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    feature_map = torch.rand(N, C, side, side, generator=generator).double().requires_grad_()
    weight = torch.randn(K, C, generator=generator).double().requires_grad_()
    bias = torch.randn(K, generator=generator).double().requires_grad_()
    embedding = feature_map.mean((2, 3))
    return Outputs(embedding @ weight.T + bias, embedding, feature_map, weight, bias)


def step_of(student: Outputs, teacher_cams: Tensor | None) -> Step:
    teacher = TeacherOutputs(class_cams=teacher_cams)
    return Step(student, teacher, torch.arange(N), torch.arange(N), 0.5)


def test_hand_worked_value_of_normalised_maps() -> None:
    # (0.6, 0, 0, 0.8) and (0, 0, 0, 1): (0.36 + 0.04) / 4.
    assert cat_kd_loss(STUDENT, TEACHER, normalize=True).item() == pytest.approx(0.1)


def test_hand_worked_value_of_plain_maps() -> None:
    assert cat_kd_loss(STUDENT, TEACHER, normalize=False).item() == pytest.approx((9 + 4) / 4)


def test_hand_worked_value_of_the_module() -> None:
    # One channel, two classes with weights 1 and -2 and biases 0 and 1; the 4 x 4 map pools to (1, 2, 3, 4).
    feature_map = torch.tensor([[0.0, 2, 1, 3], [2, 0, 3, 1], [3, 3, 4, 4], [3, 3, 4, 4]]).view(1, 1, 4, 4)
    weight, bias = torch.tensor([[1.0], [-2.0]]), torch.tensor([0.0, 1.0])
    student = Outputs(torch.zeros(1, 2), torch.zeros(1, 1), feature_map, weight, bias)
    # Student's maps: (1, 2, 3, 4) and (-1, -3, -5, -7).
    teacher = torch.tensor([[1.0, 2, 3, 2], [0.0, -3, -5, -4]]).view(1, 2, 2, 2)
    loss = CatKdConfig(normalize=False).build(shapes())(step_of(student, teacher))
    assert loss.item() == pytest.approx((4 + 1 + 9) / 8)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("side", "teacher_side", "resolution"), [(4, 4, 2), (8, 3, 2), (5, 7, 3)])
def test_module_equals_pooled_maps_of_all_classes(
    normalize: bool, side: int, teacher_side: int, resolution: int
) -> None:
    student, teacher_cams = student_of(side), torch.randn(N, K, teacher_side, teacher_side).double()
    assert student.feature_map is not None
    assert student.weight is not None
    maps = [class_cams(student.feature_map, student.weight, student.bias), teacher_cams]
    pooled = [F.adaptive_avg_pool2d(cams, resolution) for cams in maps]
    if normalize:
        pooled = [F.normalize(cams, dim=(2, 3)) for cams in pooled]  # type: ignore[arg-type]  # torch's: one int
    config = CatKdConfig(resolution=resolution, normalize=normalize)
    loss = config.build(shapes())(step_of(student, teacher_cams))
    torch.testing.assert_close(loss, (pooled[0] - pooled[1]).pow(2).mean())
    loss.backward()
    for leaf in (student.feature_map, student.weight, student.bias):
        assert leaf is not None
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0


def test_resolution_1_compares_logits() -> None:
    student, teacher_cams = student_of(), torch.randn(N, K, 6, 6).double()
    loss = CatKdConfig(resolution=1, normalize=False).build(shapes())(step_of(student, teacher_cams))
    torch.testing.assert_close(loss, F.mse_loss(student.logits, teacher_cams.mean((2, 3))))


def test_size_of_normalised_maps_does_not_matter() -> None:
    student, teacher = torch.randn(2, N, K, 2, 2)
    loss = cat_kd_loss(student, teacher, normalize=True)
    torch.testing.assert_close(cat_kd_loss(3 * student, teacher / 7, normalize=True), loss)
    assert cat_kd_loss(student, 5 * student, normalize=True).item() == pytest.approx(0, abs=1e-7)
    assert cat_kd_loss(student, -student, normalize=True).item() == pytest.approx(4 / 2**2)


@pytest.mark.parametrize("normalize", [True, False])
def test_maps_of_zeros_have_a_finite_gradient(normalize: bool) -> None:
    student = torch.zeros(N, K, 2, 2, requires_grad=True)
    loss = cat_kd_loss(student, torch.randn(N, K, 2, 2), normalize=normalize)
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert student.grad.abs().max() < 10


@pytest.mark.parametrize("normalize", [True, False])
def test_gradcheck(normalize: bool) -> None:
    student, teacher = torch.randn(2, N, K, 2, 2).double()
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: cat_kd_loss(maps, teacher, normalize=normalize), (student,))


def test_bfloat16_maps_are_compared_in_float32() -> None:
    student, teacher = torch.randn(2, N, K, 2, 2).bfloat16()
    loss = cat_kd_loss(student, teacher, normalize=True)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cat_kd_loss(student.float(), teacher.float(), normalize=True))


def test_is_the_same_under_autocast() -> None:
    feature_map, weight, teacher_cams = torch.rand(N, C, 4, 4), torch.randn(K, C), torch.randn(N, K, 4, 4)
    student = Outputs(torch.zeros(N, K), torch.zeros(N, C), feature_map, weight, None)
    module = CatKdConfig().build(shapes())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module(step_of(student, teacher_cams))
    torch.testing.assert_close(rough, module(step_of(student, teacher_cams)))


def test_refuses_normalised_maps_of_one_position() -> None:
    with pytest.raises(ValidationError, match="normalize = false or resolution = 2"):
        CatKdConfig(resolution=1)


def test_refuses_maps_that_are_smaller_than_the_resolution() -> None:
    assert CatKdConfig().misfit(shapes(2, 2)) is None
    assert CatKdConfig().misfit(shapes()._replace(teacher=None)) is None
    assert "2 positions on the shorter side of the teacher's map; set resolution = 2 or" in str(
        CatKdConfig(resolution=4).misfit(shapes(4, 2))
    )
    assert "of the student's map; set resolution = 1 with normalize = false or" in str(
        CatKdConfig().misfit(shapes(1, 4))
    )


def test_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="reads the teacher's class activation maps, and the step has none"):
        CatKdConfig().build(shapes())(step_of(student_of(), None))
    with pytest.raises(ValueError, match="reads the student's feature map, and the step has none"):
        CatKdConfig().build(shapes())(step_of(student_of()._replace(feature_map=None), None))
