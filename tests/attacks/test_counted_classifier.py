"""Tests of kdcam.attacks.attacked_network."""

import pytest
import torch
from small_attacks import ALPHA, EPS
from torch import Tensor, nn

from kdcam.attacks import CountedClassifier, bim, fgsm, pgd
from kdcam.attacks.attack_settings import ATTACKS


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
def test_it_gives_what_the_classifier_gives(
    context: type[torch.no_grad], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    counted = CountedClassifier(model)
    assert not counted.training
    with context():
        assert torch.equal(counted(batch[0]), model(batch[0]))
    assert (counted.forwards, counted.backwards) == (24, 0)
    assert torch.equal(fgsm(counted, *batch, eps=EPS), fgsm(model, *batch, eps=EPS))


def test_modes_of_the_classifier_come_back(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    model.train()
    model.norm.eval()
    counted = CountedClassifier(model)
    assert (model.dropout.training, model.norm.training) == (True, False)
    fgsm(counted, *batch, eps=EPS)
    assert (model.dropout.training, model.norm.training) == (True, False)
