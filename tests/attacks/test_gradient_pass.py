"""Tests of kdcam.attacks.attacked_network."""

from functools import partial

import pytest
import torch
from small_attacks import EPS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdcam.attacks import apgd, fgsm, input_gradient, square
from kdcam.errors import ModelError


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
