import re

import pytest
import torch
from map_networks import (
    NO_MAP,
    STUDENT,
    TEACHER,
    maps,
    published_shapes,
    published_step,
    shapes,
    step_of,
    widths,
)

from kdcam.losses import LOSSES
from kdcam.losses.loss import LossConfig, Shapes
from kdcam.losses.shared.stages import (
    all_maps,
    all_sizes,
    matched_maps,
    matched_sizes,
    needs_of_stages,
    pool_maps_to_smaller,
    why_too_few_maps,
)

WITH_STAGES = sorted(name for name, kind in LOSSES.items() if "stages" in kind.model_fields)


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


@pytest.mark.parametrize(("student", "teacher"), [(STUDENT, TEACHER), (TEACHER, STUDENT), (TEACHER, TEACHER)])
def test_published_maps_are_matched_from_the_first(student, teacher) -> None:
    expected = list(zip(student, teacher, strict=False))
    assert matched_sizes(published_shapes(student, teacher), "published") == expected
    step = published_step(maps(student, 0), maps(teacher, 1))
    pairs = matched_maps(step.student, step.teacher, "published")
    assert [(tuple(a.shape[1:]), tuple(b.shape[1:])) for a, b in pairs] == expected
    assert all(a.requires_grad and not b.requires_grad for a, b in pairs)


def test_a_step_without_published_maps_is_an_error() -> None:
    with pytest.raises(ValueError, match="reads the published maps, and the step has none"):
        all_maps(step_of(maps(STUDENT, 0), maps(TEACHER, 1)).student, "published")


def test_what_is_needed_follows_the_maps() -> None:
    assert needs_of_stages("published") == {"published_stages", "teacher.published_stages"}
    assert needs_of_stages("last-of-size", last_of_size=frozenset({"feature_map"})) == {"feature_map"}


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_networks_that_no_table_compares_are_refused(who: str) -> None:
    found = why_too_few_maps(
        published_shapes(STUDENT, TEACHER)._replace(**{who: widths(TEACHER)}), "published"
    )
    assert found == (
        f'stages: found "published", but no published table compares the {who}\'s maps; set '
        'stages = "last-of-size", or take a network of kdcam\'s for 32-pixel images, such as kdcam:resnet20'
    )


def test_too_few_published_maps_are_told() -> None:
    found = why_too_few_maps(published_shapes(STUDENT, TEACHER), "published", least=3) or ""
    assert "the student has 2 published feature maps, and this loss needs 3 or more" in found


def test_the_losses_that_repdistiller_has_read_either_maps() -> None:
    assert WITH_STAGES == ["attention_transfer", "fitnet", "nst", "similarity_preserving", "vid"]


@pytest.mark.parametrize("name", WITH_STAGES)
def test_a_loss_reads_the_maps_that_its_settings_name(name: str) -> None:
    usual, published = (LOSSES[name](stages=one) for one in ("last-of-size", "published"))  # type: ignore[call-arg]
    assert usual == LOSSES[name]()  # type: ignore[call-arg]
    assert usual.needed() == usual.needs
    assert published.needed() == needs_of_stages("published")
    fits = published_shapes(STUDENT, TEACHER)
    student_maps, teacher_maps = maps(STUDENT, 0), maps(TEACHER, 1)
    assert published.misfit(fits) is None
    loss = published.build(fits)(published_step(student_maps, teacher_maps))
    loss.backward()
    read = {"fitnet": [0], "similarity_preserving": [1]}.get(name, [0, 1])
    assert [place for place, one in enumerate(student_maps) if one.grad is not None] == read
    assert all(one.grad is None for one in teacher_maps)
    refused = published.misfit(shapes())
    assert refused is not None
    assert refused.startswith('stages: found "published"')


@pytest.mark.parametrize("name", WITH_STAGES)
def test_a_run_from_before_there_were_stages_is_of_the_same_recipe(name: str) -> None:
    usual: LossConfig = LOSSES[name]()  # type: ignore[call-arg]
    assert "stages" not in usual.model_dump()
    assert LOSSES[name](stages="published").model_dump()["stages"] == "published"  # type: ignore[call-arg]
