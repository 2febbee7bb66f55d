"""Tests of kdcam.corruptions.geometry."""

import numpy as np
import torch
from scipy.ndimage import rotate as scipy_rotate
from torch import Tensor

from kdcam.corruptions.geometry import bilinear_samples, pixel_centres, rotate, translate


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(index) for index in range(count)]


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
