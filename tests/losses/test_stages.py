import re

import pytest
import torch
from map_networks import NO_MAP, STUDENT, TEACHER, maps, shapes, step_of, widths

from kdcam.losses.loss import Shapes
from kdcam.losses.stages import (
    all_maps,
    all_sizes,
    matched_maps,
    matched_sizes,
    pool_maps_to_smaller,
    why_too_few_maps,
)


def test_maps_and_sizes_end_with_the_last_map() -> None:
    student = step_of(maps(STUDENT, 0), maps(TEACHER, 1)).student
    assert [tuple(one.shape[1:]) for one in all_maps(student)] == list(STUDENT)
    assert all_sizes(widths(STUDENT)) == STUDENT
    assert all_sizes(NO_MAP) == ()


def test_no_last_map_is_an_error() -> None:
    student = step_of(maps(STUDENT, 0), maps(TEACHER, 1)).student._replace(feature_map=None)
    with pytest.raises(ValueError, match="the last feature map, and the step has none"):
        all_maps(student)


@pytest.mark.parametrize(("student", "teacher"), [(STUDENT, TEACHER), (TEACHER, STUDENT), (TEACHER, TEACHER)])
def test_pairs_are_matched_from_the_end(student, teacher) -> None:
    count = min(len(student), len(teacher))
    expected = list(zip(student[-count:], teacher[-count:], strict=True))
    assert matched_sizes(shapes(student, teacher)) == expected
    step = step_of(maps(student, 0), maps(teacher, 1))
    pairs = matched_maps(step.student, step.teacher)
    assert [(tuple(a.shape[1:]), tuple(b.shape[1:])) for a, b in pairs] == expected


def test_no_gradient_reaches_the_teacher() -> None:
    step = step_of(maps(STUDENT, 0), maps(TEACHER, 1))
    for student_map, teacher_map in matched_maps(step.student, step.teacher):
        assert student_map.requires_grad
        assert not teacher_map.requires_grad


def test_sizes_without_a_teacher_are_an_error() -> None:
    alone = Shapes("single-label", 3, torch.arange(3), widths(STUDENT), None)
    with pytest.raises(ValueError, match="compares the student with a teacher"):
        matched_sizes(alone)


@pytest.mark.parametrize(("first", "second"), [((8, 8), (4, 4)), ((4, 4), (8, 8)), ((3, 5), (6, 4))])
def test_larger_map_is_pooled_to_the_smaller(first: tuple[int, int], second: tuple[int, int]) -> None:
    one, other = pool_maps_to_smaller(torch.ones(2, 3, *first), torch.ones(2, 7, *second))
    size = (min(first[0], second[0]), min(first[1], second[1]))
    assert one.shape == (2, 3, *size)
    assert other.shape == (2, 7, *size)
    torch.testing.assert_close(one, torch.ones_like(one))


def test_pooling_takes_the_mean_in_float32() -> None:
    large = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    one, _ = pool_maps_to_smaller(large.bfloat16(), torch.zeros(1, 1, 1, 1).bfloat16())
    assert one.dtype == torch.float32
    assert one.item() == 3
    assert pool_maps_to_smaller(large, large)[0] is large


def test_enough_maps() -> None:
    assert why_too_few_maps(shapes(), least=2) is None


@pytest.mark.parametrize(
    ("student", "teacher", "least", "reason"),
    [
        (
            NO_MAP,
            widths(TEACHER),
            1,
            r"the student has no feature map \(N, C, H, W\), and this loss needs 1 or more",
        ),
        (widths(STUDENT), NO_MAP, 1, r"the teacher has no feature map .* a loss of the logits, such as kd"),
        (
            widths(STUDENT),
            widths(TEACHER[-1:]),
            2,
            "the teacher has no earlier feature maps that kdcam reads",
        ),
        (
            widths(STUDENT),
            widths(TEACHER),
            3,
            "the student has 2 feature maps that kdcam reads, .* needs 3 or more",
        ),
    ],
)
def test_too_few_maps_are_told(student, teacher, least, reason) -> None:
    found = why_too_few_maps(Shapes("single-label", 3, torch.arange(3), student, teacher), least=least)
    assert re.search(reason, found or "")
