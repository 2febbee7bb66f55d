"""The images that adversarial training makes: where they lie, what they raise, and what they leave as it was."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcam.attacks import fgsm, pgd
from kdcam.attacks.gradient_steps import ascend_loss
from kdcam.attacks.norm_ball import NormBall, random_ball_points
from kdcam.data.batches.batch import Batch
from kdcam.models.build import build_classifier
from kdcam.models.classifier import Classifier, Outputs, TeacherOutputs
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.adversary_settings import AdversaryConfig
from kdcam.training.adversarial_images import Adversary, divergence_from, mean_teacher_probabilities

EPS = 0.1


def network() -> Classifier:
    torch.manual_seed(0)
    return build_classifier(
        ModelConfig(name="kdcam:resnet8_s2"),
        num_classes=5,
        in_channels=1,
        image_size=12,
        label_names=list("abcde"),
    ).train()


def batch_of(targets: Tensor | None = None) -> Batch:
    images = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.arange(6) % 5 if targets is None else targets, torch.arange(6))


def crafted(
    student: Classifier,
    batch: Batch,
    *taught: TeacherOutputs,
    epoch: int = 0,
    step: int = 0,
    seed: int = 0,
    task: Any = "single-label",
    **table: Any,
) -> Tensor:
    config = AdversaryConfig.model_validate({"eps": EPS, **table})
    adversary = Adversary(config, task, seed)
    return adversary.craft(student, student.outputs, batch, taught, epoch=epoch, step=step)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ["pgd", "fgsm"])
def test_images_stay_in_the_ball_and_in_range_and_move(norm: str, attack: str) -> None:
    eps = EPS if norm == "linf" else 0.5
    batch = batch_of()
    images = crafted(network(), batch, norm=norm, attack=attack, eps=eps)
    change = (images - batch.images).flatten(1)
    sizes = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert images.min() >= 0
    assert images.max() <= 1
    assert (sizes <= eps + 1e-6).all()
    assert (sizes > eps / 2).all()
    assert not images.requires_grad


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_without_random_start_they_equal_the_attack_of_an_evaluation(norm: Any) -> None:
    student, batch = network(), batch_of()
    ours = crafted(student, batch, norm=norm, random_start=False, steps=5, alpha=0.03)
    theirs = pgd(
        student,
        batch.images,
        batch.targets,
        eps=EPS,
        alpha=0.03,
        steps=5,
        norm=norm,
        random_start=False,
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_fgsm_without_random_start_is_the_plain_one() -> None:
    student, batch = network(), batch_of()
    ours = crafted(student, batch, attack="fgsm", random_start=False)
    torch.testing.assert_close(ours, fgsm(student, batch.images, batch.targets, eps=EPS))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_points_follow_from_their_numbers_and_fill_the_ball(norm: Any) -> None:
    clean = torch.full((2000, 1, 2, 2), 0.5)
    ball = NormBall(norm, 0.25)
    points = random_ball_points(clean, ball, numbers=(0, 1, 2))
    assert torch.equal(points, random_ball_points(clean, ball, numbers=(0, 1, 2)))
    assert not torch.equal(points, random_ball_points(clean, ball, numbers=(0, 2, 1)))
    change = (points - clean).flatten(1) / 0.25
    if norm == "linf":  # each pixel uniform in [-1, 1]: mean 0, variance 1/3
        assert change.mean().abs() < 0.03
        assert change.var().item() == pytest.approx(1 / 3, rel=0.05)
    else:  # uniform in a ball of 4 dimensions: radius to the fourth is uniform
        assert (change.norm(dim=1) ** 4).mean().item() == pytest.approx(0.5, rel=0.05)
        assert change.mean().abs() < 0.03


def test_starts_follow_from_seed_epoch_and_step() -> None:
    student, batch = network(), batch_of()
    first = crafted(student, batch)
    assert torch.equal(first, crafted(student, batch))
    for other in ({"seed": 1}, {"epoch": 1}, {"step": 1}):
        assert not torch.equal(first, crafted(student, batch, **other))


def test_the_student_and_the_random_state_are_left_as_they_were() -> None:
    student, batch = network(), batch_of()
    norm = next(module for module in student.modules() if isinstance(module, nn.BatchNorm2d))
    norm.eval()
    frozen = next(student.parameters())
    frozen.requires_grad_(False)
    modes = [module.training for module in student.modules()]
    before = {name: value.clone() for name, value in student.state_dict().items()}
    random_state = torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crafted(student, batch, maximise="kl_to_clean")
        assert torch.is_autocast_enabled("cpu")
    assert [module.training for module in student.modules()] == modes
    assert all(parameter.grad is None for parameter in student.parameters())
    assert [p.requires_grad for p in student.parameters()] == [p is not frozen for p in student.parameters()]
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_student_is_left_as_it_was_when_it_fails() -> None:
    student, batch = network(), batch_of()

    def failing(images: Tensor) -> Outputs:
        raise RuntimeError("out of memory")

    adversary = Adversary(AdversaryConfig(), "single-label", 0)
    with pytest.raises(RuntimeError, match="out of memory"):
        adversary.craft(student, failing, batch, (), epoch=0, step=0)
    assert student.training
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_is_crafted_in_eval_mode_and_float32_under_autocast() -> None:
    student, batch = network(), batch_of()
    seen: list[tuple[bool, torch.dtype]] = []

    def read(images: Tensor) -> Outputs:
        outputs = student.outputs(images)
        seen.append((student.training, outputs.logits.dtype))
        return outputs

    adversary = Adversary(AdversaryConfig(steps=3), "single-label", 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        adversary.craft(student, read, batch, (), epoch=0, step=0)
    assert seen == [(False, torch.float32)] * 3


def loss_of(student: Classifier, images: Tensor, value: Callable[[Tensor], Tensor]) -> float:
    student.eval()
    with torch.no_grad():
        return float(value(student(images)))


TEACHERS = [
    TeacherOutputs(torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))) for seed in (2, 3)
]
ROWS = torch.rand(6, 5, generator=torch.Generator().manual_seed(4)).softmax(1)
SEVERAL = ROWS.ge(0.2).float()


@pytest.mark.parametrize("kind", ["labels", "mixed", "several labels", "kl_to_clean", "kl_to_teacher"])
def test_what_is_to_be_raised_is_raised(kind: str) -> None:
    student = network()
    batch = batch_of({"mixed": ROWS, "several labels": SEVERAL}.get(kind))
    with torch.no_grad():
        clean = student.eval()(batch.images).softmax(1)
    student.train()
    values: dict[str, Callable[[Tensor], Tensor]] = {
        "labels": lambda logits: F.cross_entropy(logits, batch.targets),
        "mixed": lambda logits: F.cross_entropy(logits, ROWS),
        "several labels": lambda logits: F.binary_cross_entropy_with_logits(logits, SEVERAL),
        "kl_to_clean": lambda logits: divergence_from(logits, clean),
        "kl_to_teacher": lambda logits: torch.stack(
            [divergence_from(logits, one.logits.softmax(1)) for one in TEACHERS if one.logits is not None]
        ).mean(),
    }
    images = crafted(
        student,
        batch,
        *TEACHERS,
        maximise=kind if kind.startswith("kl") else "cross_entropy",
        task="multi-label" if kind == "several labels" else "single-label",
    )
    noise = random_ball_points(batch.images, NormBall("linf", EPS), numbers=(7,))
    assert loss_of(student, images, values[kind]) > 1.01 * loss_of(student, noise, values[kind])
    assert loss_of(student, images, values[kind]) > 1.01 * loss_of(student, batch.images, values[kind])


def test_an_images_steps_do_not_depend_on_the_rest_of_its_batch() -> None:
    student, batch = network(), batch_of()
    whole = crafted(student, batch, random_start=False)
    part = crafted(student, Batch(*(t[2:4] for t in batch[:3])), random_start=False)  # type: ignore[misc]
    torch.testing.assert_close(whole[2:4], part, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_loss_it_reaches_the_known_largest_value(norm: Any) -> None:
    weight = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    clean = torch.full((2, 1, 3, 4), 0.5)
    images = ascend_loss(
        lambda x: (x * weight).sum(), clean, clean, ball=NormBall(norm, 0.1), alpha=0.04, steps=5
    )
    gained = ((images - clean) * weight).sum((1, 2, 3))
    largest = 0.1 * (weight.abs().sum() if norm == "linf" else weight.norm())
    torch.testing.assert_close(gained, largest.expand(2), rtol=1e-5, atol=0)


def test_the_mean_of_teachers_has_the_gradient_of_the_mean_divergence() -> None:
    logits = torch.randn(6, 5, requires_grad=True)
    each = [divergence_from(logits, one.logits.softmax(1)) for one in TEACHERS if one.logits is not None]
    (wanted,) = torch.autograd.grad(torch.stack(each).mean(), logits)
    (found,) = torch.autograd.grad(divergence_from(logits, mean_teacher_probabilities(TEACHERS)), logits)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("taught", "match"), [((), "0 of 0"), ((TEACHERS[0], TeacherOutputs()), "1 of 2")])
def test_teachers_without_logits_are_an_error(taught: tuple[TeacherOutputs, ...], match: str) -> None:
    with pytest.raises(ValueError, match=rf"{match} teachers gave logits"):
        mean_teacher_probabilities(taught)
