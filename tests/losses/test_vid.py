import math

import pytest
import torch
import torch.nn.functional as F
from map_networks import NO_MAP, STUDENT, TEACHER, maps, shapes, step_of
from pydantic import ValidationError
from torch import Tensor
from torchdistill.losses.mid_level import VIDLoss
from torchdistill.models.wrapper import Regressor4VID

from kdcam.losses.vid import GaussianPrediction, VidConfig, vid


def by_torchdistill(prediction: GaussianPrediction, student_map: Tensor, teacher_map: Tensor) -> Tensor:
    channels = teacher_map.shape[1]
    reference = Regressor4VID(student_map.shape[1], channels, channels, 1e-5, 5.0)
    reference.regressor.load_state_dict(prediction.mean.state_dict())
    # Their start is computed in double precision; ours must be the same number.
    torch.testing.assert_close(reference.soft_plus_param.float(), prediction.scale, rtol=1e-6, atol=1e-6)
    side = {"io": "output", "path": "map"}
    loss = VIDLoss({"pair": {"student": side, "teacher": side}})
    return loss({"map": {"output": reference(student_map)}}, {"map": {"output": teacher_map}})


def test_hand_worked_value() -> None:
    predicted = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]])
    teacher = torch.tensor([[[[0.0, 4.0]], [[3.0, 0.0]]]])
    variance = torch.tensor([2.0, 0.5])
    # Errors 1, 4 over 2 and 9, 0 over 1/2; log 2 + log 1/2 = 0.
    assert vid(predicted, variance, teacher).item() == pytest.approx((0.5 + 2 + 18 + 0) / 4 / 2)


def test_equals_a_normal_distribution() -> None:
    predicted, teacher = torch.randn(3, 4, 5, 5), torch.randn(3, 4, 5, 5)
    variance = torch.rand(4) + 0.1
    normal = torch.distributions.Normal(predicted, variance.sqrt()[:, None, None])
    expected = -normal.log_prob(teacher).mean() - math.log(2 * math.pi) / 2
    torch.testing.assert_close(vid(predicted, variance, teacher), expected, rtol=1e-5, atol=1e-6)


def test_best_variance_is_the_mean_square_error() -> None:
    predicted, teacher = torch.randn(8, 2, 5, 5), torch.randn(8, 2, 5, 5)
    variance = (predicted - teacher).square().mean((0, 2, 3)).requires_grad_()
    vid(predicted, variance, teacher).backward()
    torch.testing.assert_close(variance.grad, torch.zeros(2), rtol=0, atol=1e-6)


def test_gradient_agrees_with_finite_differences() -> None:
    torch.manual_seed(0)
    predicted = torch.randn(2, 3, 2, 2).double().requires_grad_()
    variance, teacher = (torch.rand(3).double() + 0.5).requires_grad_(), torch.randn(2, 3, 2, 2).double()
    assert torch.autograd.gradcheck(lambda m, v: vid(m, v, teacher), (predicted, variance))


def test_half_precision_is_computed_in_float32() -> None:
    predicted, teacher = torch.randn(3, 4, 5, 5).bfloat16(), torch.randn(3, 4, 5, 5).bfloat16()
    loss = vid(predicted, torch.ones(4), teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, vid(predicted.float(), torch.ones(4), teacher.float()))


@pytest.mark.parametrize("variance", [1e-3, 5.0, 1000.0])
def test_variance_starts_as_told(variance: float) -> None:
    found = GaussianPrediction(2, 3, initial_variance=variance)(torch.zeros(1, 2, 1, 1))[1]
    torch.testing.assert_close(found, torch.full((3,), variance))


@pytest.mark.parametrize(("student", "teacher"), [(STUDENT, TEACHER), (TEACHER, STUDENT), (TEACHER, TEACHER)])
def test_loss_is_torchdistills_summed_over_matched_maps(student, teacher) -> None:
    torch.manual_seed(0)
    module = VidConfig().build(shapes(student, teacher))
    student_maps, teacher_maps = maps(student, 0), maps(teacher, 1)
    expected = torch.zeros(())
    for prediction, one, other in zip(
        list(module.predictions)[::-1], student_maps[::-1], teacher_maps[::-1], strict=False
    ):
        side = min(one.shape[2], other.shape[2])
        pooled = F.adaptive_avg_pool2d(one, side), F.adaptive_avg_pool2d(other, side)
        expected = expected + by_torchdistill(prediction, *pooled).float()
    torch.testing.assert_close(module(step_of(student_maps, teacher_maps)), expected, rtol=1e-6, atol=1e-6)


def test_gradient_reaches_maps_and_own_parameters_never_the_teacher() -> None:
    torch.manual_seed(0)
    module = VidConfig().build(shapes())
    student_maps, teacher_maps = maps(STUDENT, 0), maps(TEACHER, 1)
    module(step_of(student_maps, teacher_maps)).backward()
    assert all(one.grad.abs().sum() > 0 for one in student_maps)
    assert all(one.grad is None for one in teacher_maps)
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_maps_of_one_channel() -> None:
    sizes = ((1, 8, 8), (1, 4, 4))
    module = VidConfig().build(shapes(sizes, sizes))
    assert torch.isfinite(module(step_of(maps(sizes, 0), maps(sizes, 1))))


def test_autocast_agrees_with_float32() -> None:
    torch.manual_seed(0)
    module, step = VidConfig().build(shapes()), step_of(maps(STUDENT, 0), maps(TEACHER, 1))
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(step)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, module(step), rtol=0.02, atol=0.02)


def test_misfit_tells_who_has_no_map() -> None:
    assert VidConfig().misfit(shapes()) is None
    assert "the teacher has no feature map" in (VidConfig().misfit(shapes()._replace(teacher=NO_MAP)) or "")


def test_a_variance_below_the_least_is_refused() -> None:
    with pytest.raises(ValidationError, match="initial_variance"):
        VidConfig(initial_variance=0)
