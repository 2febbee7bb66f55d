"""Tests of kdcam.attacks.attacked_network."""

from functools import partial
from typing import Any

import pytest
import torch
from small_attacks import ALPHA, EPS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdcam.attacks import (
    CountedClassifier,
    apgd,
    apgd_targeted,
    bim,
    cw_margin,
    fgsm,
    input_gradient,
    mim,
    pgd,
    square,
)
from kdcam.attacks.attack_settings import ATTACKS
from kdcam.errors import ModelError


def test_modes_come_back_after_an_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model.train()

        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    broken = Broken()
    with pytest.raises(RuntimeError, match="out of memory"):
        fgsm(broken, *batch, eps=EPS)
    assert broken.training
    assert model.dropout.training


def test_a_network_that_draws_leaves_no_trace(batch: tuple[Tensor, Tensor]) -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images + 0.1 * torch.randn_like(images)).mean((2, 3))

    random_state = torch.get_rng_state()
    fgsm(Noisy(), batch[0], batch[1] % 3, eps=EPS)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_half_precision_images_are_attacked_in_float32(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images = batch[0].to(torch.bfloat16)
    found = fgsm(model, images, batch[1], eps=EPS)
    assert found.dtype == torch.float32
    assert (found - images.float()).abs().max() <= EPS + 1e-6


def test_images_outside_zero_to_one_are_refused(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    for wrong in (images * 255, (images - 0.5) / 0.25, images.masked_fill(images > 0.9, torch.nan)):
        with pytest.raises(ValueError, match=r"wanted \[0, 1\]: attacks work on pixels"):
            fgsm(model, wrong, targets, eps=EPS)
    with pytest.raises(ValueError, match="uint8"):
        fgsm(model, (images * 255).byte(), targets, eps=EPS)
    for shape in ((23, 4), (24,), (), (24, 4, 1)):
        with pytest.raises(
            ValueError, match=r"wanted one integer label an image, or a row of floats \(N, K\)"
        ):
            fgsm(model, images, torch.zeros(shape), eps=EPS)
    with pytest.raises(ValueError, match="other numbers than 0 and 1"):
        fgsm(model, images, torch.full((24, 4), 0.5), eps=EPS)


CONFIGURED_ATTACKS = [
    input_gradient,
    partial(fgsm, eps=EPS),
    partial(pgd, eps=EPS, alpha=EPS, steps=1, restarts=2),
    partial(mim, eps=EPS, alpha=EPS, steps=1, stop_when_fooled=True),
    partial(cw_margin, eps=EPS, alpha=EPS, steps=1),
    partial(apgd, eps=EPS, steps=1, loss="dlr"),
    partial(apgd_targeted, eps=EPS, steps=1),
    partial(square, eps=EPS, n_queries=2),
]


@pytest.mark.parametrize("attack", CONFIGURED_ATTACKS)
def test_labels_that_are_none_of_the_classes_are_refused(
    attack: Any, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    images, labels = batch[0], batch[1].clone()
    labels[5] = 4
    message = "targets hold the label 4, but the network gives logits of 4 classes; wanted labels from 0 to 3"
    with pytest.raises(ValueError, match=message):
        attack(model, images, labels)
    labels[5] = -1
    with pytest.raises(ValueError, match="targets hold the label -1; wanted labels from 0 on"):
        attack(model, images, labels)


def test_losses_that_are_not_known_and_indices_that_do_not_fit_are_refused(
    model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    settings = {"eps": EPS, "alpha": EPS, "steps": 1}
    with pytest.raises(ValueError, match=r"loss is 'hinge'; wanted one of cross_entropy, margin, dlr"):
        pgd(model, *batch, loss="hinge", **settings)
    with pytest.raises(ValueError, match=r"indices have shape \(3,\); wanted one an image, \(24,\)"):
        pgd(model, *batch, indices=torch.arange(3), **settings)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("attack", CONFIGURED_ATTACKS)
def test_networks_that_give_no_numbers_are_refused(
    attack: Any, value: float, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = model(images)
            some = torch.zeros_like(logits)
            some[:2, 3] = value
            return logits + some

    broken = Broken()
    with pytest.raises(ModelError, match=r"attack: the logits of 2 of 24 images are not finite"):
        attack(broken, *batch)
    assert not broken._forward_hooks


@pytest.mark.parametrize("attack", CONFIGURED_ATTACKS[:-1])  # square takes no gradient
def test_gradients_that_are_no_numbers_are_refused(
    attack: Any, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    class Steep(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = model(images)
            # The root of 0 has an infinite slope, times 0.
            nothing = (images[:3] * 0).sum((1, 2, 3)).sqrt()
            return (
                logits + torch.cat([nothing, logits.new_zeros(max(len(images) - 3, 0))])[: len(images), None]
            )

    found = r"attack: the gradients on the pixels of 3 of 24 images are not finite"
    with pytest.raises(ModelError, match=found):
        attack(Steep(), *batch)


def test_passes_of_attacks_by_hand(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    counted = CountedClassifier(model)
    fgsm(counted, *batch, eps=EPS)
    assert (counted.forwards, counted.backwards) == (24, 24)
    bim(counted, *batch, eps=EPS, alpha=ALPHA, steps=3)
    assert (counted.forwards, counted.backwards) == (96, 96)
    tiny = 1e-6  # fools nobody: each of 2 restarts has 3 steps and a look at the end
    pgd(counted, *batch, eps=tiny, alpha=tiny, steps=3, restarts=2)
    assert (counted.forwards, counted.backwards) == (96 + 192, 96 + 144)


@pytest.mark.parametrize("name", sorted(ATTACKS.keys() - {"standard", "autoattack"}))
def test_attacks_that_fool_nobody_take_about_the_passes_that_are_expected(
    name: str, model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    numbers = {"steps": 12, "restarts": 2, "n_queries": 30, "n_target_classes": 3}
    kind = ATTACKS[name]
    config = kind(
        name=name, eps=1e-7, **{key: numbers[key] for key in numbers.keys() & kind.model_fields.keys()}
    )
    counted = CountedClassifier(model)
    config.perturb(counted, *batch, torch.arange(24))
    assert config.expected_passes == pytest.approx((counted.forwards + 2 * counted.backwards) / 24, rel=0.05)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_counted_classifier_gives_what_the_classifier_gives(
    context: type[torch.no_grad], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    counted = CountedClassifier(model)
    assert not counted.training
    with context():
        assert torch.equal(counted(batch[0]), model(batch[0]))
    assert (counted.forwards, counted.backwards) == (24, 0)
    assert torch.equal(fgsm(counted, *batch, eps=EPS), fgsm(model, *batch, eps=EPS))


def test_modes_of_a_counted_classifier_come_back(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    model.train()
    model.norm.eval()
    counted = CountedClassifier(model)
    assert (model.dropout.training, model.norm.training) == (True, False)
    fgsm(counted, *batch, eps=EPS)
    assert (model.dropout.training, model.norm.training) == (True, False)


def test_a_network_without_gradient_is_named(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    class Frozen(nn.Module):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return model(images)

    with pytest.raises(ModelError, match="carries no gradient"):
        fgsm(Frozen(), *batch, eps=EPS)


def test_a_network_that_cuts_the_graph_is_named_and_can_be_searched(batch: tuple[Tensor, Tensor]) -> None:
    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(192, 4)

        def forward(self, images: Tensor) -> Tensor:
            return self.head((images * 255).byte().float().flatten(1))

    network, labels = Quantised(), batch[1] % 4
    for attack in (input_gradient, partial(fgsm, eps=EPS), partial(apgd, eps=EPS, steps=2)):
        with pytest.raises(ModelError, match=r"carries no gradient.*whole numbers, or take square"):
            attack(network, batch[0], labels)
    assert square(network, batch[0], labels, eps=EPS, n_queries=3).shape == batch[0].shape


def test_input_gradient_is_each_images_own(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    found = input_gradient(model, images, targets)
    leaf = images[:1].clone().requires_grad_()
    cross_entropy(model(leaf), targets[:1]).backward()
    torch.testing.assert_close(found[:1], leaf.grad)
    assert found.shape == images.shape
