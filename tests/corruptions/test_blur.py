"""Tests of kdcam.corruptions.blur."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import interpolate

from kdcam.corruptions.blur import gaussian_blur, motion_blur


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(index) for index in range(count)]


@pytest.mark.parametrize("size", [(32, 32), (48, 64)])
def test_gaussian_blur_is_scipys(size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    sigma = 1.4 * min(size) / 32
    radius = math.ceil(3 * sigma)
    wanted = gaussian_filter(
        images.double().numpy(), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, radius, radius)
    )
    assert torch.allclose(gaussian_blur(images, 1.4).double(), torch.from_numpy(wanted), atol=1e-6)


@pytest.mark.parametrize("blurs", ["gaussian", "motion"])
def test_width_grows_with_the_picture(blurs: str, pictures: Tensor) -> None:
    def blurred(images: Tensor) -> Tensor:
        return gaussian_blur(images, 2.0) if blurs == "gaussian" else motion_blur(images, 8, generators(40))

    large = interpolate(pictures, (128, 128), mode="bilinear")
    small = interpolate(blurred(large), (32, 32), mode="area")
    assert (small - blurred(pictures)).abs().mean() < 0.1 * (blurred(pictures) - pictures).abs().mean()


def test_motion_blur_draws_points_out_to_lines() -> None:
    point = torch.zeros(30, 1, 33, 33)
    point[:, :, 16, 16] = 1
    traces = motion_blur(point, 10 * 32 / 33, generators(30))[:, 0]
    assert torch.allclose(traces.sum((1, 2)), torch.ones(30), atol=1e-4)
    rows, columns = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    for trace in traces:
        spread = torch.stack([rows, columns])[:, trace > 0]
        moments = (spread * trace[trace > 0]) @ spread.T
        across, along = torch.linalg.eigvalsh(moments)
        # 11 points from -5 to 5 have variance 10; across it is only the width of a bilinear step
        assert 9.9 < along < 10.6
        assert across < 0.3
    assert len(torch.unique((traces > 0).flatten(1), dim=0)) > 15, "directions differ"
