from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torchdistill.losses.mid_level import RKDLoss

from kdcam.losses.loss import Shapes, Step
from kdcam.losses.rkd import RkdConfig, cosines_at_vertices, distances, rkd_angle, rkd_distance
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths

SHAPES = Shapes("single-label", 3, torch.arange(3), Widths(4, 4, 1, 1), Widths(6, 6, 1, 1))


def embeddings(dtype: torch.dtype = torch.float32, images: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(images, 4, generator=generator).to(dtype)
    return student.requires_grad_(), 5 * torch.randn(images, 6, generator=generator).to(dtype)


def huber(a: float) -> float:
    return a * a / 2 if abs(a) < 1 else abs(a) - 0.5


def looped(student: Tensor, teacher: Tensor) -> tuple[float, float]:
    """Both terms, pair by pair and triplet by triplet."""
    n = len(student)
    spans = [[[float((a - b).norm()) for b in rows] for a in rows] for rows in (student, teacher)]
    means = [sum(map(sum, span)) / (n * (n - 1)) for span in spans]
    distance = sum(
        huber(spans[0][i][j] / means[0] - spans[1][i][j] / means[1]) for i in range(n) for j in range(n)
    )

    def cosine(rows: Tensor, i: int, j: int, k: int) -> float:
        if i in (j, k):
            return 0.0
        return float(torch.cosine_similarity(rows[j] - rows[i], rows[k] - rows[i], dim=0))

    angle = sum(
        huber(cosine(student, i, j, k) - cosine(teacher, i, j, k))
        for i in range(n)
        for j in range(n)
        for k in range(n)
    )
    return distance / n**2, angle / n**3


def test_hand_worked_distances_and_cosines() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    spans = distances(points)
    torch.testing.assert_close(spans, torch.tensor([[0.0, 3, 4], [3, 0, 5], [4, 5, 0]]))
    cosines = cosines_at_vertices(spans)
    assert cosines[0, 1, 2].item() == pytest.approx(0, abs=1e-6)
    assert cosines[1, 0, 2].item() == pytest.approx(0.6)
    assert cosines[2, 1, 0].item() == pytest.approx(0.8)
    assert cosines[0, 1, 1].item() == pytest.approx(1)
    assert cosines[0, 0, 1].item() == cosines[0, 0, 0].item() == 0


def test_hand_worked_value() -> None:
    # Distances 1, 1, 2 on a line against an even triangle: in units of their means 0.75, 0.75, 1.5 against 1.
    student = torch.tensor([[0.0], [1.0], [2.0]])
    teacher = torch.eye(3)
    assert rkd_distance(student, teacher).item() == pytest.approx(2 * (2 * 0.25**2 + 0.5**2) / 2 / 9)
    # The cosines of the three angles, each twice: 1, -1, 1 against 1/2.
    assert rkd_angle(student, teacher).item() == pytest.approx(2 * (0.125 + 1 + 0.125) / 27)


def test_equals_loops_over_pairs_and_triplets() -> None:
    student, teacher = embeddings(torch.float64)
    distance, angle = looped(student.detach(), teacher)
    assert rkd_distance(student, teacher).item() == pytest.approx(distance, rel=1e-9)
    assert rkd_angle(student, teacher).item() == pytest.approx(angle, rel=1e-9)


def test_equals_torchdistill_in_value_and_gradient() -> None:
    student, teacher = embeddings(torch.float64, images=16)
    reference = RKDLoss("pool", "pool", 25.0, 50.0, "mean")
    expected = reference({"pool": {"output": student}}, {"pool": {"output": teacher}})
    found = 25 * rkd_distance(student, teacher) + 50 * rkd_angle(student, teacher)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


def test_is_zero_for_the_same_figure_moved_turned_and_scaled() -> None:
    student, _ = embeddings(torch.float64)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    moved = 3 * student.detach() @ turn + 7
    assert rkd_distance(student, moved).item() < 1e-20
    assert rkd_angle(student, moved).item() < 1e-20


def test_gradients_agree_with_finite_differences() -> None:
    student, teacher = embeddings(torch.float64)
    assert torch.autograd.gradcheck(lambda x: rkd_distance(x, teacher), student)
    assert torch.autograd.gradcheck(lambda x: rkd_angle(x, teacher), student)


def test_equal_embeddings_have_distance_zero_and_a_finite_gradient() -> None:
    student = embeddings()[0].detach().clone() + 100  # where products lose much
    student[3] = student[1]
    student.requires_grad_()
    assert distances(student)[1, 3].item() == 0
    assert cosines_at_vertices(distances(student))[0, 1, 3].item() == pytest.approx(1, abs=1e-5)
    (rkd_distance(student, embeddings()[1]) + rkd_angle(student, embeddings()[1])).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().max() < 1


@pytest.mark.parametrize("images", [1, 4])
def test_a_batch_that_is_one_point_gives_no_nan(images: int) -> None:
    student = torch.ones(images, 4, requires_grad=True)
    teacher = embeddings(images=images)[1]
    (rkd_distance(student, teacher) + rkd_angle(student, teacher)).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() == 0


def test_far_from_the_origin_float32_is_still_exact() -> None:
    student, teacher = embeddings(torch.float64)
    near = rkd_angle(student, teacher)
    far = rkd_angle((student.detach() + 1000).float(), teacher.float())
    torch.testing.assert_close(far.double(), near.detach(), rtol=1e-3, atol=0)


def test_half_precision_is_worked_out_in_float32() -> None:
    student, teacher = (tensor.detach().bfloat16() for tensor in embeddings())
    for function in (rkd_distance, rkd_angle):
        with torch.autocast("cpu", torch.bfloat16):
            rough = function(student, teacher)
        torch.testing.assert_close(rough, function(student.float(), teacher.float()), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ({}, (25, 50)),
        ({"angle_weight": 0.0}, (25, 0)),
        ({"distance_weight": 0.0, "angle_weight": 2.0}, (0, 2)),
    ],
)
def test_the_loss_weighs_both_terms_and_only_the_student_has_a_gradient(
    keys: dict[str, Any], parts: tuple[float, float]
) -> None:
    student, teacher = embeddings()
    outputs = Outputs(student, student, None, None, None)
    step = Step(outputs, TeacherOutputs(embedding=teacher), torch.arange(6) % 3, torch.arange(6), 0.5)
    loss = RkdConfig(**keys).build(SHAPES)(step)
    expected = parts[0] * rkd_distance(student, teacher) + parts[1] * rkd_angle(student, teacher)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_both_weights_zero_are_refused() -> None:
    with pytest.raises(ValidationError, match="leave nothing"):
        RkdConfig(distance_weight=0, angle_weight=0)


def test_published_weights_are_the_defaults() -> None:
    config = RkdConfig()
    assert (config.weight, config.distance_weight, config.angle_weight) == (1, 25, 50)
