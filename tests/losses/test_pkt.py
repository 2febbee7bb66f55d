import math

import pytest
import torch
from torch import Tensor
from torchdistill.losses.mid_level import PKTLoss

from kdcam.losses.loss import Shapes, Step
from kdcam.losses.pkt import PktConfig, pkt
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

SHAPES = Shapes("single-label", 3, torch.arange(3), Widths(4, 4, 1, 1), Widths(6, 6, 1, 1))


def embeddings(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(7, 4, generator=generator).to(dtype)
    return student.requires_grad_(), torch.randn(7, 6, generator=generator).to(dtype)


def probabilities(rows: Tensor) -> list[list[float]]:
    """One pair at a time."""
    likeness = [[(1 + float(torch.cosine_similarity(a, b, dim=0))) / 2 for b in rows] for a in rows]
    return [[value / sum(row) for value in row] for row in likeness]


def looped(student: Tensor, teacher: Tensor) -> float:
    pairs = zip(probabilities(teacher), probabilities(student), strict=True)
    terms = [p * math.log((p + 1e-7) / (q + 1e-7)) for ps, qs in pairs for p, q in zip(ps, qs, strict=True)]
    return sum(terms) / len(student) ** 2


def test_hand_worked_value() -> None:
    # Student at right angles: (1, 1/2) / 1.5; teacher opposite: (1, 0). Mean over four numbers, not two rows.
    student, teacher = torch.eye(2).double(), torch.tensor([[1.0], [-1.0]]).double()
    assert pkt(student, teacher).item() == pytest.approx(2 * math.log(1.5) / 4, rel=1e-6)


def test_equals_a_double_loop() -> None:
    student, teacher = embeddings(torch.float64)
    assert pkt(student, teacher).item() == pytest.approx(looped(student.detach(), teacher), rel=1e-9)


def test_equals_torchdistill() -> None:
    student, teacher = embeddings(torch.float64)
    reference = PKTLoss("fc", "input", "fc", "input").cosine_similarity_loss(student.detach(), teacher)
    torch.testing.assert_close(pkt(student, teacher), reference, rtol=1e-6, atol=0)


def test_is_zero_for_the_same_directions() -> None:
    student, _ = embeddings()
    assert pkt(student, torch.cat([3 * student, 0 * student], 1)).abs().item() < 1e-8


def test_gradient_agrees_with_finite_differences() -> None:
    student, teacher = embeddings(torch.float64)
    assert torch.autograd.gradcheck(lambda x: pkt(x, teacher), student)


def test_a_zero_embedding_and_a_single_image_give_no_nan() -> None:
    student = embeddings()[0].detach().clone()
    student[2] = 0
    student.requires_grad_()
    pkt(student, embeddings()[1]).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert pkt(student[:1], embeddings()[1][:1]).item() == 0


def test_half_precision_is_worked_out_in_float32() -> None:
    student, teacher = (tensor.detach().bfloat16() for tensor in embeddings())
    with torch.autocast("cpu", torch.bfloat16):
        rough = pkt(student, teacher)
    torch.testing.assert_close(rough, pkt(student.float(), teacher.float()), rtol=0, atol=0)


def test_the_loss_reads_both_embeddings_and_only_the_student_has_a_gradient() -> None:
    student, teacher = embeddings()
    outputs = Outputs(student, student, None, None, None)
    step = Step(outputs, TeacherOutputs(embedding=teacher), torch.arange(7) % 3, torch.arange(7), 0.5)
    loss = PktConfig().build(SHAPES)(step)
    torch.testing.assert_close(loss, pkt(student, teacher))
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    with pytest.raises(ValueError, match="the teacher's embedding"):
        PktConfig().build(SHAPES)(step._replace(teacher=TeacherOutputs()))


def test_the_published_weight_is_the_default() -> None:
    assert PktConfig().weight == 30000
