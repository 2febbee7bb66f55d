"""Tests of kdcam.robustness.attacks.passes."""

import pytest
import torch
from small_attacks import ALPHA, EPS
from torch import Tensor, nn

from kdcam.robustness.attacks import Counted, bim, fgsm, pgd


def test_passes_of_attacks_by_hand(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    counted = Counted(model)
    fgsm(counted, *batch, eps=EPS)
    assert (counted.forwards, counted.backwards) == (24, 24)
    bim(counted, *batch, eps=EPS, alpha=ALPHA, steps=3)
    assert (counted.forwards, counted.backwards) == (96, 96)
    tiny = 1e-6  # fools nobody: each of 2 restarts has 3 steps and a look at the end
    pgd(counted, *batch, eps=tiny, alpha=tiny, steps=3, restarts=2)
    assert (counted.forwards, counted.backwards) == (96 + 192, 96 + 144)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_gives_what_the_classifier_gives(
    context: type[torch.no_grad], model: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    counted = Counted(model)
    assert not counted.training
    with context():
        assert torch.equal(counted(batch[0]), model(batch[0]))
    assert (counted.forwards, counted.backwards) == (24, 0)
    assert torch.equal(fgsm(counted, *batch, eps=EPS), fgsm(model, *batch, eps=EPS))


def test_modes_of_the_classifier_come_back(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    model.train()
    model.norm.eval()
    counted = Counted(model)
    assert (model.dropout.training, model.norm.training) == (True, False)
    fgsm(counted, *batch, eps=EPS)
    assert (model.dropout.training, model.norm.training) == (True, False)
