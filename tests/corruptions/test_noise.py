"""Tests of kdcam.corruptions.noise."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kdcam.corruptions.noise import gaussian_noise, impulse_noise, shot_noise


@pytest.fixture
def gray() -> Tensor:
    return torch.full((20, 3, 32, 32), 0.5)


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng((1, index)) for index in range(count)]


def test_gaussian_noise_has_its_standard_deviation(gray: Tensor) -> None:
    noise = gaussian_noise(gray, 0.1, generators(20)) - gray
    assert noise.mean() == pytest.approx(0, abs=0.002)
    assert noise.std() == pytest.approx(0.1, rel=0.02)


def test_shot_noise_is_poisson(gray: Tensor) -> None:
    counts = shot_noise(gray, 20, generators(20)) * 20
    assert torch.equal(counts, counts.round())
    assert counts.mean() == pytest.approx(10, rel=0.01)
    assert counts.var() == pytest.approx(10, rel=0.03)  # mean and variance of a Poisson are equal
    assert (shot_noise(torch.zeros(1, 1, 4, 4), 20, generators(1)) == 0).all()


def test_impulse_noise_sets_its_share(gray: Tensor) -> None:
    worse = impulse_noise(gray, 0.2, generators(20))
    assert (worse == 0).double().mean() == pytest.approx(0.1, abs=0.005)
    assert (worse == 1).double().mean() == pytest.approx(0.1, abs=0.005)
    assert set(worse.unique().tolist()) == {0, 0.5, 1}
