import pytest
import torch
from torch import Tensor
from torchdistill.losses import mid_level

from kdcam.losses.loss import Shapes, Step
from kdcam.losses.similarity_preserving import SimilarityPreservingConfig, similarity_preserving
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

SHAPES = Shapes("single-label", 3, torch.arange(3), Widths(4, 4, 3, 3), Widths(6, 6, 2, 2))


def maps(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(5, 4, 3, 3, generator=generator).to(dtype).relu()
    return student.requires_grad_(), torch.randn(5, 6, 2, 2, generator=generator).to(dtype).relu()


def looped(student: Tensor, teacher: Tensor) -> float:
    """The equation pair by pair."""
    images = range(len(student))
    grams = [[[float((a * b).sum()) for b in rows] for a in rows] for rows in (student, teacher)]
    total = 0.0
    for i in images:
        lengths = [sum(x * x for x in gram[i]) ** 0.5 for gram in grams]
        total += sum((grams[0][i][j] / lengths[0] - grams[1][i][j] / lengths[1]) ** 2 for j in images)
    return total / len(student) ** 2


def test_hand_worked_value() -> None:
    # Student's images at right angles: G' = I; the teacher's alike: rows (1, 1) / sqrt 2.
    student, teacher = torch.eye(2)[:, :, None, None], torch.ones(2, 3, 1, 1)
    each = 2 * ((1 - 0.5**0.5) ** 2 + 0.5)
    assert similarity_preserving(student, teacher).item() == pytest.approx(each / 4)


def test_equals_a_double_loop() -> None:
    student, teacher = maps(torch.float64)
    found = similarity_preserving(student, teacher).item()
    assert found == pytest.approx(looped(student.detach(), teacher), rel=1e-12)


def test_equals_torchdistill_once_it_divides_rows_by_their_length(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher = maps(torch.float64)
    # Its 1 is the norm's order, and rows are divided by their sums, which is neither the paper's nor RepDistiller's.
    monkeypatch.setattr(mid_level, "normalize", lambda rows, order: torch.nn.functional.normalize(rows))
    reference = mid_level.SPKDLoss("map", "map", "batchmean").compute_spkd_loss(teacher, student) / 25
    torch.testing.assert_close(similarity_preserving(student, teacher), reference, rtol=1e-6, atol=0)


def test_is_zero_for_the_same_relations_at_any_scale() -> None:
    student, _ = maps()
    assert similarity_preserving(student, torch.cat([3 * student, 0 * student], 1)).item() < 1e-12


def test_gradient_agrees_with_finite_differences() -> None:
    student, teacher = maps(torch.float64)
    inner = (student.detach() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: similarity_preserving(x, teacher), inner)


def test_an_image_without_any_activation_has_no_gradient_and_no_nan() -> None:
    student = maps()[0].detach().clone()
    student[2] = 0
    student.requires_grad_()
    similarity_preserving(student, maps()[1]).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_half_precision_is_worked_out_in_float32() -> None:
    student, teacher = (tensor.detach().bfloat16() for tensor in maps())
    with torch.autocast("cpu", torch.bfloat16):
        rough = similarity_preserving(student, teacher)
    torch.testing.assert_close(rough, similarity_preserving(student.float(), teacher.float()), rtol=0, atol=0)


def test_the_loss_reads_both_maps_and_only_the_student_has_a_gradient() -> None:
    student, teacher = maps()
    frozen = TeacherOutputs(feature_map=teacher)
    step = Step(
        Outputs(student.mean((2, 3)), student.mean((2, 3)), student, None, None),
        frozen,
        torch.arange(5) % 3,
        torch.arange(5),
        0.5,
    )
    loss = SimilarityPreservingConfig().build(SHAPES)(step)
    torch.testing.assert_close(loss, similarity_preserving(student, teacher))
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_a_teacher_without_a_map_is_an_error() -> None:
    student, _ = maps()
    outputs = Outputs(student.mean((2, 3)), student.mean((2, 3)), student, None, None)
    step = Step(outputs, TeacherOutputs(), torch.arange(5) % 3, torch.arange(5), 0.5)
    with pytest.raises(ValueError, match="reads the last feature map, and the step has none"):
        SimilarityPreservingConfig().build(SHAPES)(step)


def test_the_published_weight_is_the_default() -> None:
    assert SimilarityPreservingConfig().weight == 3000
