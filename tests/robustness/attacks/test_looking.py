"""Tests of kdcam.robustness.attacks.looking."""

import pytest
import torch
from small_attacks import EPS
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kdcam.errors import ModelError
from kdcam.robustness.attacks import fgsm, input_gradient


def test_a_network_without_gradient_is_named(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    class Frozen(nn.Module):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return model(images)

    with pytest.raises(ModelError, match="carries no gradient"):
        fgsm(Frozen(), *batch, eps=EPS)


def test_input_gradient_is_each_images_own(model: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, targets = batch
    found = input_gradient(model, images, targets)
    leaf = images[:1].clone().requires_grad_()
    cross_entropy(model(leaf), targets[:1]).backward()
    torch.testing.assert_close(found[:1], leaf.grad)
    assert found.shape == images.shape
