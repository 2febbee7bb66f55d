"""Tests of kdcam.attacks.auto_attack."""

import sys

import pytest
import torch
from small_attacks import Linear, fooled
from torch import Tensor, nn

from kdcam.attacks import apgd
from kdcam.attacks.attack_settings import AutoAttackConfig
from kdcam.attacks.auto_attack import auto_attack
from kdcam.errors import ModelError, RecipeError


@pytest.fixture
def package() -> object:
    return pytest.importorskip("pyautoattack")


@pytest.mark.usefixtures("package")
def test_it_is_at_least_as_strong_as_its_first_attack(
    trained: nn.Module, attacked: tuple[Tensor, Tensor], capfd: pytest.CaptureFixture[str]
) -> None:
    images, labels = attacked[0][:12], attacked[1][:12]
    random_state = torch.get_rng_state()
    found = AutoAttackConfig(eps=0.3).perturb(trained, images, labels, torch.arange(12))
    assert (found - images).abs().max() <= 0.3 + 1e-6
    assert 0 <= found.min() <= found.max() <= 1
    first = apgd(trained, images, labels, eps=0.3, steps=20)
    assert fooled(trained, found, labels).sum() >= fooled(trained, first, labels).sum()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("package")
def test_too_few_classes_are_named() -> None:
    model = Linear(torch.ones(1, 2, 2), classes=3)
    with pytest.raises(ModelError, match="targeted DLR loss needs at least 4 classes, found 3"):
        auto_attack(model, torch.full((1, 1, 2, 2), 0.5), torch.ones(1, dtype=torch.int64), eps=0.1)


def test_a_missing_package_is_named_with_its_extra(
    trained: nn.Module, attacked: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    message = r"pyautoattack is not installed; run `pip install \"kdcam\[autoattack\]\"`, or take standard"
    with pytest.raises(RecipeError, match=message):
        auto_attack(trained, *attacked, eps=0.1)
    problem = AutoAttackConfig().problem(10, multi_label=False)
    assert problem is not None
    assert "kdcam[autoattack]" in problem
