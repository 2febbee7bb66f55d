import pytest
import torch
import torch.nn.functional as F
from map_networks import NO_MAP, STUDENT, TEACHER, maps, shapes, step_of
from torch import Tensor
from torchdistill.losses.mid_level import ATLoss

from kdcam.losses.attention_transfer import AttentionTransferConfig, attention, attention_transfer


def by_torchdistill(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    side = {"io": "output", "path": "map"}
    loss = ATLoss({"pair": {"student": side, "teacher": side}}, mode="code")
    return loss({"map": {"output": student_map}}, {"map": {"output": teacher_map}})


def test_hand_worked_value() -> None:
    # Means of squares (8, 6) -> (0.8, 0.6) and (0, 5) -> (0, 1).
    student = torch.tensor([[[[0.0, 2.0]], [[4.0, 8**0.5]]]])
    teacher = torch.tensor([[[[0.0, -(5**0.5)]]]])
    torch.testing.assert_close(attention(student), torch.tensor([[0.8, 0.6]]))
    assert attention_transfer(student, teacher).item() == pytest.approx((0.64 + 0.16) / 2)


@pytest.mark.parametrize("channels", [1, 7])
def test_equals_torchdistill(channels: int) -> None:
    student, teacher = torch.randn(5, 4, 6, 6), torch.randn(5, channels, 6, 6)
    expected = by_torchdistill(student, teacher)
    torch.testing.assert_close(attention_transfer(student, teacher), expected, rtol=1e-6, atol=1e-6)


def test_scale_and_order_of_channels_are_of_no_matter() -> None:
    student, teacher = torch.randn(3, 4, 5, 5), torch.randn(3, 6, 5, 5)
    other = -7 * student[:, [2, 0, 3, 1]]
    torch.testing.assert_close(attention_transfer(other, teacher), attention_transfer(student, teacher))
    assert attention_transfer(student, 3 * student).item() == pytest.approx(0, abs=1e-12)


def test_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 4).double().requires_grad_(), torch.randn(2, 2, 2, 2).double()
    assert torch.autograd.gradcheck(lambda one: attention_transfer(one, teacher), (student,))


def test_maps_of_zeros_are_finite() -> None:
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = attention_transfer(student, torch.rand(2, 3, 4, 4))
    loss.backward()
    assert loss.item() == pytest.approx(1 / 16)
    assert student.grad is not None
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = torch.randn(3, 4, 5, 5).bfloat16(), torch.randn(3, 6, 5, 5).bfloat16()
    loss = attention_transfer(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, attention_transfer(student.float(), teacher.float()))


@pytest.mark.parametrize(("student", "teacher"), [(STUDENT, TEACHER), (TEACHER, STUDENT), (TEACHER, TEACHER)])
def test_loss_is_the_sum_over_matched_maps(student, teacher) -> None:
    module = AttentionTransferConfig().build(shapes(student, teacher))
    student_maps, teacher_maps = maps(student, 0), maps(teacher, 1)
    expected = torch.zeros(())
    for one, other in zip(student_maps[::-1], teacher_maps[::-1], strict=False):
        side = min(one.shape[2], other.shape[2])
        expected = expected + by_torchdistill(
            F.adaptive_avg_pool2d(one, side), F.adaptive_avg_pool2d(other, side)
        )
    torch.testing.assert_close(module(step_of(student_maps, teacher_maps)), expected, rtol=1e-6, atol=1e-6)


def test_gradient_reaches_all_matched_maps_never_the_teacher() -> None:
    student_maps, teacher_maps = maps(STUDENT, 0), maps(TEACHER, 1)
    AttentionTransferConfig().build(shapes())(step_of(student_maps, teacher_maps)).backward()
    assert all(one.grad.abs().sum() > 0 for one in student_maps)
    assert all(one.grad is None for one in teacher_maps)


def test_misfit_tells_who_has_no_map() -> None:
    config = AttentionTransferConfig()
    assert config.misfit(shapes()) is None
    assert config.misfit(shapes(STUDENT[-1:])) is None
    assert "the teacher has no feature map" in (config.misfit(shapes()._replace(teacher=NO_MAP)) or "")
    assert "the student has no feature map" in (config.misfit(shapes()._replace(student=NO_MAP)) or "")
