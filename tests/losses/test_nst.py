import pytest
import torch
import torch.nn.functional as F
from map_networks import NO_MAP, STUDENT, TEACHER, maps, shapes, step_of
from torch import Tensor

from kdcam.losses.nst import NstConfig, nst, patterns


def by_loops(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return RepDistiller's formula, kernel by kernel."""

    def kernels(first: Tensor, second: Tensor) -> Tensor:
        return torch.stack([torch.dot(a, b) ** 2 for a in first for b in second]).mean()

    each = []
    for one, other in zip(student_map.flatten(2), teacher_map.flatten(2), strict=True):
        s, t = F.normalize(one, dim=1), F.normalize(other, dim=1)
        each.append(kernels(s, s) + kernels(t, t) - 2 * kernels(s, t))
    return torch.stack(each).mean()


def test_hand_worked_value() -> None:
    # Unit vectors (1, 0), (0, 1) against (0.6, 0.8): 2 / 4 + 1 - 2 (0.36 + 0.64) / 2.
    student = torch.tensor([[[[2.0, 0.0]], [[0.0, 3.0]]]])
    teacher = torch.tensor([[[[3.0, 4.0]]]])
    assert nst(student, teacher).item() == pytest.approx(0.5 + 1 - 1)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((3, 4, 4), (5, 4, 4)), ((3, 2, 2), (7, 2, 2)), ((9, 2, 2), (1, 2, 2)), ((1, 3, 3), (1, 3, 3))],
    ids=["by kernels", "by places", "one channel by places", "one channel by kernels"],
)
def test_equals_loops_over_channels_either_way(student, teacher) -> None:
    torch.manual_seed(0)
    one, other = torch.randn(4, *student), torch.randn(4, *teacher)
    torch.testing.assert_close(nst(one, other), by_loops(one, other), rtol=1e-6, atol=1e-6)


def test_order_scale_sign_and_copies_of_channels_are_of_no_matter() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(3, 4, 5, 5), torch.randn(3, 6, 5, 5)
    other = -3 * student[:, [2, 0, 3, 1, 0, 1, 2, 3]]
    torch.testing.assert_close(nst(other, teacher), nst(student, teacher))
    assert nst(student, other).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("side", [2, 4])
def test_gradient_agrees_with_finite_differences(side: int) -> None:
    torch.manual_seed(0)
    student = torch.randn(2, 3, 4, 4).double().requires_grad_()
    teacher = torch.randn(2, 6, side, side).double()
    assert torch.autograd.gradcheck(lambda one: nst(one, teacher), (student,))


@pytest.mark.parametrize("channels", [3, 40])
def test_channels_of_zeros_are_finite(channels: int) -> None:
    student = torch.rand(2, channels, 4, 4)
    student[:, 0] = 0
    student.requires_grad_()
    assert torch.equal(patterns(student)[:, 0], torch.zeros(2, 16))
    nst(student, torch.rand(2, 3, 4, 4)).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad[:, 1:].abs().sum() > 0


def test_half_precision_is_computed_in_float32_under_autocast_too() -> None:
    student, teacher = torch.randn(3, 4, 5, 5).bfloat16(), torch.randn(3, 6, 5, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = nst(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nst(student.float(), teacher.float()))


@pytest.mark.parametrize(("student", "teacher"), [(STUDENT, TEACHER), (TEACHER, STUDENT)])
def test_loss_is_the_sum_over_matched_maps(student, teacher) -> None:
    module = NstConfig().build(shapes(student, teacher))
    student_maps, teacher_maps = maps(student, 0, images=2), maps(teacher, 1, images=2)
    expected = torch.zeros(())
    for one, other in zip(student_maps[::-1], teacher_maps[::-1], strict=False):
        side = min(one.shape[2], other.shape[2])
        expected = expected + by_loops(F.adaptive_avg_pool2d(one, side), F.adaptive_avg_pool2d(other, side))
    torch.testing.assert_close(module(step_of(student_maps, teacher_maps)), expected, rtol=1e-6, atol=1e-6)


def test_gradient_reaches_all_matched_maps_never_the_teacher() -> None:
    student_maps, teacher_maps = maps(STUDENT, 0), maps(TEACHER, 1)
    NstConfig().build(shapes())(step_of(student_maps, teacher_maps)).backward()
    assert all(one.grad.abs().sum() > 0 for one in student_maps)
    assert all(one.grad is None for one in teacher_maps)


def test_misfit_tells_who_has_no_map() -> None:
    assert NstConfig().misfit(shapes()) is None
    assert "the student has no feature map" in (NstConfig().misfit(shapes()._replace(student=NO_MAP)) or "")
