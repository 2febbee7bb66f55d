"""Tests of kdcam.corruptions.colour."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import adjust_saturation

from kdcam.corruptions.colour import brightness, contrast, fog, saturation


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(index) for index in range(count)]


def test_brightness_adds(pictures: Tensor) -> None:
    assert torch.equal(brightness(pictures, 0.25), pictures + 0.25)


def test_contrast_keeps_the_mean_and_scales_the_spread(pictures: Tensor) -> None:
    flat = contrast(pictures, 0.4)
    assert torch.allclose(flat.mean((1, 2, 3)), pictures.mean((1, 2, 3)), atol=1e-6)
    assert torch.allclose(flat.flatten(1).std(1), 0.4 * pictures.flatten(1).std(1), atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_saturation_is_torchvisions(factor: float, pictures: Tensor) -> None:
    wanted = adjust_saturation(pictures, factor)
    # torchvision's weights of gray are rounded to four digits
    assert torch.allclose(saturation(pictures, factor), wanted, atol=2e-4)


def test_fog_hides_between_half_and_all_of_its_strength() -> None:
    black = torch.zeros(10, 1, 48, 32)
    opacity = fog(black, 0.6, generators(10)) / 0.9  # the fog's own colour
    assert torch.allclose(opacity.amax((1, 2, 3)), torch.tensor(0.6))
    assert torch.allclose(opacity.amin((1, 2, 3)), torch.tensor(0.3))
    steps = opacity.diff(dim=-1).abs()
    assert steps.max() < 0.15, "fog is smooth"
    assert opacity.std((1, 2, 3)).min() > 0.03


def test_fog_is_the_same_in_all_channels(pictures: Tensor) -> None:
    gray = torch.full((2, 3, 16, 16), 0.2)
    worse = fog(gray, 0.5, generators(2))
    assert torch.equal(worse[:, 0], worse[:, 2])
