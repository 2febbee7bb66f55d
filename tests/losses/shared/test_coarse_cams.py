import torch

from kdcam.losses.loss import Shapes, Step
from kdcam.losses.shared.coarse_cams import coarse, coarse_student_cams, coarse_teacher_cams, smallest_side
from kdcam.models.classifier import Outputs, TeacherOutputs, Widths


def student_of(side: int) -> Outputs:
    feature_map, weight, bias = torch.rand(2, 3, side, side), torch.randn(5, 3), torch.randn(5)
    embedding = feature_map.mean((2, 3))
    return Outputs(embedding @ weight.T + bias, embedding, feature_map, weight, bias)


def test_mean_over_cells_is_the_logits_where_the_grid_divides_the_side() -> None:
    student = student_of(4)
    teacher = TeacherOutputs(class_cams=torch.randn(2, 5, 6, 6))
    step = Step(student, teacher, torch.zeros(2), torch.zeros(2), 0.0)
    cams = coarse_student_cams(step, 2)
    assert cams.shape == (2, 5, 2, 2)
    torch.testing.assert_close(cams.mean((2, 3)), student.logits)
    assert coarse_teacher_cams(step, 3).shape == (2, 5, 3, 3)


def test_on_7_by_7_the_four_cells_share_the_middle_row_and_column() -> None:
    student = student_of(7)
    cams = coarse_student_cams(Step(student, None, torch.zeros(2), torch.zeros(2), 0.0), 2)
    assert student.feature_map is not None
    assert student.weight is not None
    assert student.bias is not None
    counts = torch.tensor([1.0, 1, 1, 2, 1, 1, 1]) / 8  # of a row; each cell is 4 x 4
    mean = torch.einsum("nchw,h,w->nc", student.feature_map, counts, counts)
    torch.testing.assert_close(cams.mean((2, 3)), mean @ student.weight.T + student.bias)
    assert not torch.allclose(cams.mean((2, 3)), student.logits, rtol=1e-3)


def test_half_precision_is_pooled_in_float32() -> None:
    maps = torch.rand(1, 2, 4, 4).bfloat16()
    assert coarse(maps, 2).dtype == torch.float32


def test_smallest_side_names_the_network() -> None:
    def sides(student: tuple[int, int] | None, teacher: tuple[int, int] | None) -> tuple[str, int] | None:
        networks = [Widths(3, 3, *(one or (None, None))) for one in (student, teacher)]
        return smallest_side(Shapes("single-label", 2, torch.zeros(0), *networks))

    assert sides((8, 7), (7, 8)) == ("student", 7)
    assert sides((8, 8), (4, 9)) == ("teacher", 4)
    assert sides(None, (4, 4)) == ("teacher", 4)
    assert sides(None, None) is None
