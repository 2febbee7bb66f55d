import re

import pytest
import torch
import torch.nn.functional as F
from map_networks import NO_MAP, STUDENT, TEACHER, maps, shapes, step_of
from pydantic import ValidationError

from kdcam.losses.fitnet import FitnetConfig, fitnet
from kdcam.recipe.recipe_files import read_toml, recipe_text, shipped_recipes


def test_is_the_mean_square() -> None:
    student, teacher = (
        torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]]]),
        torch.tensor([[[[0.0, 4.0]], [[1.0, 0.0]]]]),
    )
    assert fitnet(student, teacher).item() == (1 + 4 + 1 + 0) / 4
    assert fitnet(student, student).item() == 0


def test_gradient_agrees_with_finite_differences() -> None:
    student, teacher = torch.randn(2, 3, 2, 2).double().requires_grad_(), torch.randn(2, 3, 2, 2).double()
    assert torch.autograd.gradcheck(lambda one: fitnet(one, teacher), (student,))


def test_squares_of_half_precision_are_wide() -> None:
    student, teacher = torch.full((1, 3, 8, 8), 3.0).bfloat16(), torch.zeros(1, 3, 8, 8).bfloat16()
    loss = fitnet(student, teacher)
    assert loss.dtype == torch.float32
    assert loss.item() == 9


@pytest.mark.parametrize(("student", "teacher"), [(STUDENT, TEACHER), (TEACHER, STUDENT), (TEACHER, TEACHER)])
@pytest.mark.parametrize("stage", [-1, -2])
def test_equals_normalised_1x1_regression_at_the_smaller_size(student, teacher, stage: int) -> None:
    torch.manual_seed(0)
    module = FitnetConfig(stage=stage).build(shapes(student, teacher))
    student_maps, teacher_maps = maps(student, 0), maps(teacher, 1)
    found = module(step_of(student_maps, teacher_maps))
    size = min(student[stage][1], teacher[stage][1])
    own = F.adaptive_avg_pool2d(student_maps[stage], size)
    target = F.adaptive_avg_pool2d(teacher_maps[stage], size)
    told = torch.einsum("nchw,dc->ndhw", own, module.adapter[0].weight.flatten(1))
    told = (told - told.mean((0, 2, 3), keepdim=True)) / told.var((0, 2, 3), correction=0, keepdim=True).add(
        1e-5
    ).sqrt()
    torch.testing.assert_close(found, (told - target).square().mean(), rtol=1e-6, atol=1e-6)


def test_gradient_reaches_that_map_and_the_adapter_alone() -> None:
    module = FitnetConfig().build(shapes())
    student_maps, teacher_maps = maps(STUDENT, 0), maps(TEACHER, 1)
    module(step_of(student_maps, teacher_maps)).backward()
    assert student_maps[0].grad.abs().sum() > 0
    assert student_maps[1].grad is None
    assert all(one.grad is None for one in teacher_maps)
    assert all(parameter.grad.abs().sum() > 0 for parameter in module.parameters())


def test_autocast_agrees_with_float32() -> None:
    torch.manual_seed(0)
    module, step = FitnetConfig().build(shapes()), step_of(maps(STUDENT, 0), maps(TEACHER, 1))
    with torch.autocast("cpu", torch.bfloat16):
        rough = module(step)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, module(step), rtol=0.02, atol=0.02)


def test_maps_of_one_channel_can_be_learned() -> None:
    torch.manual_seed(0)
    sizes = ((1, 4, 4),)
    module = FitnetConfig(stage=-1).build(shapes(sizes, sizes))
    (student_map,) = maps(sizes, 0, images=16)
    step = step_of([student_map], [2 * student_map + 3])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        module(step).backward()
        optimizer.step()
    assert module(step).item() < 1e-3


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (-2, None),
        (-3, "the student has 2 feature maps .* needs 3 or more; found stage = -3: set stage = -2 or nearer"),
    ],
)
def test_a_stage_that_is_not_there_is_refused(stage: int, reason: str | None) -> None:
    found = FitnetConfig(stage=stage).misfit(shapes())
    assert found is None if reason is None else re.search(reason, found or "")


def test_networks_without_maps_are_refused() -> None:
    found = FitnetConfig().misfit(shapes()._replace(teacher=NO_MAP))
    assert found is not None
    assert "the teacher has no feature map" in found
    found = FitnetConfig().misfit(shapes(STUDENT[-1:]))
    assert found is not None
    assert "the student has no earlier feature maps that kdcam reads" in found
    assert "set stage = -1 " in found


def test_stages_counted_from_the_front_are_refused() -> None:
    with pytest.raises(ValidationError, match="stage"):
        FitnetConfig(stage=0)


def test_the_card_names_the_pairs_of_the_table_on_which_it_passes_kd_or_stays_behind_no_distillation() -> (
    None
):
    passes, behind = set(), set()
    for name in shipped_recipes():
        if not re.fullmatch(r"distillation/cifar100-\w+-\w+", name):
            continue
        numbers = {key: one["accuracy"] for key, one in read_toml(name)["published"].items()}
        alone = re.search(r"student alone ([\d.]+)", recipe_text(name))
        assert alone is not None
        pair = name.removeprefix("distillation/cifar100-")
        passes |= {pair} if numbers["fitnet"] > numbers["kd"] else set()
        behind |= {pair} if numbers["fitnet"] < float(alone[1]) else set()
    assert passes == {"resnet32x4-resnet8x4"}
    assert behind == {
        "resnet110-resnet20",
        "resnet110-resnet32",
        "vgg13-mobilenetv2",
        "resnet50-mobilenetv2",
    }
    card = " ".join((FitnetConfig.__doc__ or "").split())
    assert "resnet110 -> resnet20 and resnet32 and for vgg13 and ResNet50 -> MobileNetV2 behind no" in card
