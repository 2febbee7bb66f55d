from typing import Any

import pytest
import torch
import torch.nn.functional as F
from map_networks import NO_MAP, STUDENT, TEACHER, maps, shapes, step_of
from torch import Tensor
from torchdistill.losses.mid_level import HierarchicalContextLoss
from torchdistill.models.wrapper import AttentionBasedFusion

from kdcam.errors import RecipeError
from kdcam.losses.review_kd import ReviewKd, ReviewKdConfig, hierarchical_context


def by_torchdistill(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    loss = HierarchicalContextLoss("fused", "output", "map", "output")
    return loss({"fused": {"output": (student_map, None)}}, {"map": {"output": teacher_map}})


def reference_fusions(module: ReviewKd) -> list[AttentionBasedFusion]:
    """Return torchdistill's modules with the same parameters, deepest first."""
    found = []
    for depth, (enter, leave) in enumerate(zip(module.enters, module.leaves, strict=True)):
        shared, inner, _, _ = enter[0].weight.shape
        fusion = AttentionBasedFusion(inner, shared, len(leave[0].weight), uses_attention=depth > 0)
        fusion.conv1.load_state_dict(enter.state_dict(), strict=False)
        fusion.conv2.load_state_dict(leave.state_dict(), strict=False)
        if depth > 0:
            fusion.attention_conv[0].load_state_dict(module.fusions[depth - 1].attention.state_dict())
        found.append(fusion)
    return found


def test_hand_worked_value() -> None:
    # A difference of 1 at one of 2 x 2 places: mean square 1/4, and 1/16 of the pooled maps with weight 1/2.
    student, teacher = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    student[0, 0, 0, 0] = 1
    assert hierarchical_context(student, teacher).item() == pytest.approx((1 / 4 + 1 / 2 / 16) / 1.5)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8])
def test_equals_torchdistill(side: int) -> None:
    student, teacher = torch.randn(3, 4, side, side), torch.randn(3, 4, side, side)
    expected = by_torchdistill(student, teacher)
    torch.testing.assert_close(hierarchical_context(student, teacher), expected, rtol=1e-6, atol=1e-6)


def test_sides_count_by_the_smaller_of_both() -> None:
    student, teacher = torch.randn(3, 4, 2, 9), torch.randn(3, 4, 2, 9)
    apart = (student - teacher).square().mean() + (student - teacher).mean((2, 3)).square().mean() / 2
    torch.testing.assert_close(hierarchical_context(student, teacher), apart / 1.5)


def test_gradient_agrees_with_finite_differences() -> None:
    student, teacher = torch.randn(2, 2, 5, 5).double().requires_grad_(), torch.randn(2, 2, 5, 5).double()
    assert torch.autograd.gradcheck(lambda one: hierarchical_context(one, teacher), (student,))


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = torch.randn(3, 4, 5, 5).bfloat16(), torch.randn(3, 4, 5, 5).bfloat16()
    loss = hierarchical_context(student, teacher)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, hierarchical_context(student.float(), teacher.float()))


@pytest.mark.parametrize("student", [((4, 16, 16), (6, 8, 8), (8, 4, 4)), ((4, 8, 8), (6, 4, 4))])
def test_loss_is_torchdistills_where_teacher_and_student_have_maps_of_the_same_size(student) -> None:
    torch.manual_seed(0)
    module = ReviewKdConfig().build(shapes(student, TEACHER))
    student_maps, teacher_maps = maps(student, 0), maps(TEACHER, 1)
    found = module(step_of(student_maps, teacher_maps))
    levels = [student_maps[-1].mean((2, 3), keepdim=True), *student_maps[::-1]]
    targets = [teacher_maps[-1].mean((2, 3), keepdim=True), *teacher_maps[::-1]]
    expected, carried = torch.zeros(()), None
    for fusion, level, target in zip(reference_fusions(module), levels, targets, strict=False):
        told, carried = fusion(level, carried, level.shape[2])
        expected = expected + by_torchdistill(told, target)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_map_of_another_size_is_told_at_the_teachers() -> None:
    torch.manual_seed(0)
    student, teacher = ((4, 4, 6), (6, 2, 3)), ((3, 8, 8), (5, 4, 4))
    module = ReviewKdConfig().build(shapes(student, teacher))
    student_maps, teacher_maps = maps(student, 0), maps(teacher, 1)
    found = module(step_of(student_maps, teacher_maps))
    pooled, deep, shallow = reference_fusions(module)
    told, carried = pooled(student_maps[1].mean((2, 3), keepdim=True))
    expected = by_torchdistill(told, teacher_maps[1].mean((2, 3), keepdim=True))
    for fusion, own, target in (
        (deep, student_maps[1], teacher_maps[1]),
        (shallow, student_maps[0], teacher_maps[0]),
    ):
        # The fused map at the student's size, then enlarged, then told.
        entered = fusion.conv1(own)
        deeper = F.interpolate(carried, entered.shape[2:])
        shares = fusion.attention_conv(torch.cat([entered, deeper], 1))
        carried = F.interpolate(entered * shares[:, [0]] + deeper * shares[:, [1]], target.shape[2:])
        expected = expected + by_torchdistill(fusion.conv2(carried), target)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("student", "teacher"), [(STUDENT, TEACHER), (TEACHER, STUDENT)])
def test_gradient_reaches_maps_and_own_parameters_never_the_teacher(student, teacher) -> None:
    torch.manual_seed(0)
    module = ReviewKdConfig().build(shapes(student, teacher))
    student_maps, teacher_maps = maps(student, 0), maps(teacher, 1)
    module(step_of(student_maps, teacher_maps)).backward()
    matched = min(len(student), len(teacher))
    assert all(one.grad.abs().sum() > 0 for one in student_maps[-matched:])
    assert all(one.grad is None for one in teacher_maps)
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_maps_of_one_channel() -> None:
    sizes = ((1, 8, 8), (1, 4, 4))
    module = ReviewKdConfig().build(shapes(sizes, sizes))
    assert torch.isfinite(module(step_of(maps(sizes, 0), maps(sizes, 1))))


def test_shared_channels_are_the_embeddings_512_at_most() -> None:
    for embedding, shared in ((6, 6), (600, 512)):
        sizes = shapes()._replace(student=shapes().student._replace(embedding=embedding))
        module = ReviewKdConfig().build(sizes)
        assert len(module.enters[0][0].weight) == shared
        assert module.enters[0][0].weight.shape[1] == embedding


def test_autocast_agrees_with_float32() -> None:
    torch.manual_seed(0)
    module, step = ReviewKdConfig().build(shapes()), step_of(maps(STUDENT, 0), maps(TEACHER, 1))
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(step)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, module(step), rtol=0.02, atol=0.02)


def test_weight_grows_over_a_twelfth_of_the_run() -> None:
    config = ReviewKdConfig(weight=0.6)
    assert config.weight_at(0) == 0
    assert config.weight_at(10 / 240) == pytest.approx(0.3)
    assert config.weight_at(20 / 240) == pytest.approx(0.6)


def test_a_single_image_is_refused_with_the_way_out() -> None:
    module, step = ReviewKdConfig().build(shapes()), step_of(maps(STUDENT, 0), maps(TEACHER, 1))

    def first(outputs: Any) -> Any:
        kept = {key: value[:1] for key, value in outputs._asdict().items() if isinstance(value, Tensor)}
        return outputs._replace(**kept, stages=tuple(one[:1] for one in outputs.stages))

    alone = step._replace(student=first(step.student), teacher=first(step.teacher))
    with pytest.raises(RecipeError, match=r"^batch_size: review_kd .* single image; raise batch_size"):
        module(alone)


def test_misfit_tells_who_has_too_few_maps() -> None:
    config = ReviewKdConfig()
    assert config.misfit(shapes()) is None
    assert "the teacher has no feature map" in (config.misfit(shapes()._replace(teacher=NO_MAP)) or "")
    alone = config.misfit(shapes(STUDENT[-1:])) or ""
    assert "the student has no earlier feature maps that kdcam reads" in alone
    assert "needs 2 or more; take a network that has them" in alone
