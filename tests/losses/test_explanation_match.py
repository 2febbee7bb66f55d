import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdcam.cam.maps import class_cams
from kdcam.losses.explanation_match import ExplanationMatch, ExplanationMatchConfig, explanation_match_loss
from kdcam.losses.loss import Shapes, Step
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

N, K, C = 3, 4, 5
SHAPES = Shapes("single-label", K, torch.arange(K), Widths(C, C, 4, 4), Widths(9, 9, 4, 4))


def student_of(side: int = 4) -> Outputs:
    generator = torch.Generator().manual_seed(0)
    feature_map = torch.rand(N, C, side, side, generator=generator).double().requires_grad_()
    weight = torch.randn(K, C, generator=generator).double().requires_grad_()
    bias = torch.randn(K, generator=generator).double().requires_grad_()
    embedding = feature_map.mean((2, 3))
    return Outputs(embedding @ weight.T + bias, embedding, feature_map, weight, bias)


def step_of(student: Outputs, teacher_cams: Tensor | None, teacher_logits: Tensor | None) -> Step:
    teacher = TeacherOutputs(logits=teacher_logits, class_cams=teacher_cams)
    return Step(student, teacher, torch.zeros(N).long(), torch.arange(N), 0.5)


def test_hand_worked_value() -> None:
    # (3, 4, 0) and (4, 3, 0): cosine 24/25; (0, 2, 0) and (0, 1, 0): cosine 1.
    student = torch.tensor([[[3.0, 4.0, -9.0]], [[-1.0, 2.0, 0.0]]])
    teacher = torch.tensor([[[4.0, 3.0, 0.0]], [[0.0, 1.0, -5.0]]])
    assert explanation_match_loss(student, teacher).item() == pytest.approx((1 / 25 + 0) / 2, abs=1e-6)


def test_larger_map_is_pooled_to_the_smaller() -> None:
    # Cut off at 0, the rows of pairs pool to (3, 4).
    student = torch.tensor([[[6.0, -6.0, 5.0, 3.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[4.0, 3.0]]], dtype=torch.float64)
    assert explanation_match_loss(student, teacher).item() == pytest.approx(1 / 25)
    assert explanation_match_loss(teacher, student).item() == pytest.approx(1 / 25)


def test_is_0_for_like_and_1_for_disjoint_maps() -> None:
    maps = torch.rand(N, 4, 4)
    assert explanation_match_loss(7 * maps, maps).item() == pytest.approx(0, abs=1e-6)
    left = torch.tensor([[[1.0, 0.0]]])
    assert explanation_match_loss(left, left.flip(2)).item() == 1


def test_maps_without_anything_above_0_count_1_and_have_no_gradient() -> None:
    student = (-torch.rand(N, 4, 4)).requires_grad_()
    loss = explanation_match_loss(student, torch.rand(N, 4, 4))
    loss.backward()
    assert loss.item() == 1
    assert student.grad is not None
    assert student.grad.abs().sum() == 0
    assert explanation_match_loss(torch.rand(N, 4, 4), torch.zeros(N, 4, 4)).item() == 1


@pytest.mark.parametrize(("side", "teacher_side"), [(4, 4), (8, 4), (4, 7)])
def test_module_compares_the_class_that_the_teacher_predicts(side: int, teacher_side: int) -> None:
    student = student_of(side)
    teacher_cams = torch.randn(N, K, teacher_side, teacher_side).double()
    predicted = torch.tensor([2, 0, 3])  # not the labels, nor what the maps' means say
    loss = ExplanationMatchConfig().build(SHAPES)(
        step_of(student, teacher_cams, F.one_hot(predicted, K).double())
    )
    assert student.feature_map is not None
    assert student.weight is not None
    student_cams = class_cams(student.feature_map, student.weight, student.bias)
    smaller = min(side, teacher_side)
    one, other = (
        F.adaptive_avg_pool2d(cams.relu(), smaller)[range(N), predicted].flatten(1)
        for cams in (student_cams, teacher_cams)
    )
    torch.testing.assert_close(loss, 1 - F.cosine_similarity(one, other).mean())
    loss.backward()
    for leaf in (student.feature_map, student.weight, student.bias):
        assert leaf is not None
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0


def test_a_classifier_without_bias_will_do() -> None:
    student = student_of()._replace(bias=None)
    teacher_cams = torch.randn(N, K, 4, 4).double()
    assert torch.isfinite(ExplanationMatch()(step_of(student, teacher_cams, teacher_cams.mean((2, 3)))))


def test_gradcheck() -> None:
    student, teacher = torch.rand(2, N, 4, 4).double() + 0.1
    student.requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: explanation_match_loss(maps, teacher), (student,))


def test_bfloat16_maps_are_compared_in_float32() -> None:
    student, teacher = torch.randn(2, N, 4, 4).bfloat16()
    loss = explanation_match_loss(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, explanation_match_loss(student.float(), teacher.float()))


def test_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="reads the teacher's class activation maps, and the step has none"):
        ExplanationMatch()(step_of(student_of(), None, torch.zeros(N, K)))
    with pytest.raises(ValueError, match="reads the teacher's logits, and the step has none"):
        ExplanationMatch()(step_of(student_of(), torch.zeros(N, K, 4, 4), None))
    with pytest.raises(ValueError, match="reads the student's classifier weight, and the step has none"):
        ExplanationMatch()(step_of(student_of()._replace(weight=None), None, None))
