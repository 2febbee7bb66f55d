"""Tests of kdcam.corruptions.corruption_functions."""

import math
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.ndimage import rotate as scipy_rotate
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import adjust_saturation

from kdcam.corruptions.corruption_functions import (
    bilinear_samples,
    brightness,
    contrast,
    fog,
    gaussian_blur,
    gaussian_noise,
    impulse_noise,
    jpeg,
    motion_blur,
    pixel_centres,
    pixelate,
    rotate,
    saturation,
    shot_noise,
    translate,
)


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(index) for index in range(count)]


@pytest.fixture
def gray() -> Tensor:
    return torch.full((20, 3, 32, 32), 0.5)


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


@pytest.mark.parametrize(("share", "cells"), [(0.75, 24), (0.5, 16), (0.25, 8)])
def test_pixelate_leaves_so_many_cells(share: float, cells: int, pictures: Tensor) -> None:
    worse = pixelate(pictures, share)
    assert len(torch.unique(worse[0].permute(1, 0, 2).flatten(1), dim=0)) == cells
    assert len(torch.unique(worse[0].permute(2, 0, 1).flatten(1), dim=0)) == cells


def test_pixelate_never_keeps_all_pixels() -> None:
    tiny = torch.tensor([[0.0, 1.0], [1.0, 0.5]])[None, None]
    assert len(pixelate(tiny, 0.9).unique()) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels: int, pictures: Tensor) -> None:
    images = pictures[:3, :channels]
    worse = jpeg(images, 25)
    for image, found in zip(images, worse, strict=True):
        row = (image * 255).round().byte().permute(1, 2, 0).numpy()
        file = BytesIO()
        Image.fromarray(row.squeeze()).save(file, "JPEG", quality=25)
        wanted = np.asarray(Image.open(file)).reshape(row.shape)
        assert ((found * 255).round().byte().permute(1, 2, 0).numpy() == wanted).all()


def test_reading_where_pixels_are_gives_them_back(pictures: Tensor) -> None:
    rows, columns = pixel_centres(pictures)
    assert torch.allclose(bilinear_samples(pictures, rows, columns), pictures, atol=1e-5)


def test_reading_beside_repeats_the_border() -> None:
    images = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    rows, columns = pixel_centres(images)
    moved = bilinear_samples(images, rows + 1, columns)
    assert torch.allclose(moved[:, :, :-1], images[:, :, 1:], atol=1e-5)
    assert torch.allclose(moved[:, :, -1], images[:, :, -1], atol=1e-5)


def test_translate_moves_by_its_distance() -> None:
    spot = torch.zeros(40, 1, 40, 60)
    spot[:, :, 20, 30] = 1
    moved = translate(spot, 0.2, generators(40))[:, 0]
    assert torch.allclose(moved.sum((1, 2)), torch.ones(40), atol=1e-4)
    down = (moved.sum(2) * torch.arange(40.0)).sum(1) - 20
    right = (moved.sum(1) * torch.arange(60.0)).sum(1) - 30
    assert torch.allclose((down**2 + right**2).sqrt(), torch.tensor(8.0), atol=1e-3)
    quadrants = {(float(one) > 0, float(other) > 0) for one, other in zip(down, right, strict=True)}
    assert len(quadrants) == 4


def test_rotate_turns_about_the_middle_either_way(pictures: Tensor) -> None:
    images = pictures[:12]
    turned = rotate(images, 25, generators(12))
    middle = (slice(None), slice(8, 24), slice(8, 24))  # borders are filled in another way by scipy
    signs = set()
    for image, found in zip(images, turned, strict=True):
        errors = {
            sign: np.abs(
                scipy_rotate(image.numpy(), sign * 25, axes=(2, 1), reshape=False, order=1, mode="nearest")[
                    middle
                ]
                - found.numpy()[middle]
            ).max()
            for sign in (-1, 1)
        }
        sign = min(errors, key=errors.__getitem__)
        assert errors[sign] < 1e-4
        signs.add(sign)
    assert signs == {-1, 1}


def test_rotate_by_a_right_angle_is_exact() -> None:
    images = torch.rand(6, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    for image, turned in zip(images, rotate(images, 90, generators(6)), strict=True):
        candidates = [torch.rot90(image, turn, (1, 2)) for turn in (1, -1)]
        assert any(torch.allclose(turned, candidate, atol=1e-5) for candidate in candidates)
