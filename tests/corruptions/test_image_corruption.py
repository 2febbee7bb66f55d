"""Tests of kdcam.corruptions.image_corruption: what holds for every corruption."""

from zlib import crc32

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdcam.corruptions.corruption_list import CORRUPTIONS, SEVERITIES, corruptions_for
from kdcam.corruptions.image_corruption import corrupt
from kdcam.errors import DataError, RecipeError

NAMES = tuple(CORRUPTIONS)
DRAWN = ("gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "fog", "translate", "rotate")


def indices_of(images: Tensor) -> Tensor:
    return torch.arange(len(images))


def changes(name: str, images: Tensor, severity: int) -> Tensor:
    worse = corrupt(name, images, severity=severity, indices=indices_of(images))
    return (worse - images).abs().mean((1, 2, 3))


def cases(channels: int) -> list[tuple[str, int]]:
    return [(name, channels) for name in corruptions_for(channels)]


@pytest.mark.parametrize(("name", "channels"), cases(3) + cases(1))
@pytest.mark.parametrize("size", [(32, 32), (8, 8), (28, 36), (90, 64)], ids=str)
def test_each_severity_changes_pictures_more(
    name: str, channels: int, size: tuple[int, int], pictures: Tensor
) -> None:
    images = interpolate(pictures[:20, :channels], size, mode="bilinear")
    by_severity = torch.stack([changes(name, images, severity) for severity in SEVERITIES])
    # 1 value in 50 is set, so that some pictures of 64 values have none
    changed = by_severity[0] > 1e-4
    assert changed.all() or (name == "impulse_noise" and size == (8, 8) and changed.sum() > 10)
    assert (by_severity[4] > by_severity[0]).all(), "a picture changed less at severity 5 than at 1"
    # 8 x 8 pictures: the cells of pixelate are 5, 4 and 3 pixels wide, and a shift of half a pixel blurs most
    assert size == (8, 8) or (by_severity.mean(1).diff() > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_values_stay_in_range_and_kind(name: str, pictures: Tensor) -> None:
    images = pictures.contiguous(memory_format=torch.channels_last)
    kept = images.clone()
    worse = corrupt(name, images, severity=5, indices=indices_of(images))
    assert worse.shape == images.shape
    assert worse.dtype == torch.float32
    assert worse.min() >= 0
    assert worse.max() <= 1
    assert torch.equal(images, kept)
    assert torch.equal(worse, corrupt(name, pictures, severity=5, indices=indices_of(images)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [1, 4])
def test_batch_mates_do_not_matter(name: str, severity: int, pictures: Tensor) -> None:
    whole = corrupt(name, pictures, severity=severity, indices=indices_of(pictures), seed=3)
    for part in (torch.tensor([7]), torch.tensor([39, 0, 7]), torch.arange(40).flip(0)[:33]):
        alone = corrupt(name, pictures[part], severity=severity, indices=part, seed=3)
        assert torch.equal(alone, whole[part])


@pytest.mark.parametrize("name", DRAWN)
def test_seed_and_index_decide_what_is_drawn(name: str, pictures: Tensor) -> None:
    twins = pictures[:1].expand(8, -1, -1, -1)
    first = corrupt(name, twins, severity=3, indices=torch.arange(8))
    again = corrupt(name, twins, severity=3, indices=torch.arange(8))
    other = corrupt(name, twins, severity=3, indices=torch.arange(8), seed=1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(torch.unique(first.flatten(1), dim=0)) == (2 if name == "rotate" else 8)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DRAWN)))
def test_others_draw_nothing(name: str, pictures: Tensor) -> None:
    twins = pictures[:1].expand(3, -1, -1, -1)
    worse = corrupt(name, twins, severity=3, indices=torch.arange(3), seed=5)
    assert torch.equal(worse[0], worse[1])


def test_draws_are_those_of_numpy_and_of_every_severity() -> None:
    gray = torch.full((1, 3, 4, 4), 0.5)
    rng = np.random.default_rng((11, crc32(b"gaussian_noise"), 7))
    normal = torch.from_numpy(rng.standard_normal((3, 4, 4), dtype=np.float32))
    for severity, strength in ((1, 0.04), (3, 0.12)):
        worse = corrupt("gaussian_noise", gray, severity=severity, indices=torch.tensor([7]), seed=11)
        assert torch.equal(worse[0], (0.5 + strength * normal).clamp(0, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_the_same(name: str, pictures: Tensor) -> None:
    indices = indices_of(pictures)
    there = corrupt(name, pictures.cuda(), severity=3, indices=indices.cuda())
    assert there.is_cuda
    assert torch.allclose(there.cpu(), corrupt(name, pictures, severity=3, indices=indices), atol=1e-4)


def test_random_states_are_left_alone(pictures: Tensor) -> None:
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
    for name in NAMES:
        corrupt(name, pictures[:2], severity=2, indices=torch.arange(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numbers).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_image_gives_no_image(name: str) -> None:
    none = torch.zeros(0, 3, 8, 8)
    assert corrupt(name, none, severity=1, indices=torch.zeros(0, dtype=torch.int64)).shape == none.shape


def test_gray_pictures_have_no_saturation() -> None:
    assert "saturation" not in corruptions_for(1)
    assert set(corruptions_for(3)) == set(NAMES)
    gray = torch.rand(2, 1, 8, 8)
    with pytest.raises(DataError, match=r"'saturation' does nothing to gray pictures"):
        corrupt("saturation", gray, severity=1, indices=torch.arange(2))


def test_wrong_arguments_are_refused() -> None:
    images, indices = torch.rand(2, 3, 8, 8), torch.arange(2)
    with pytest.raises(RecipeError, match=r"unknown name 'motion'; .*known names: gaussian_noise"):
        corrupt("motion", images, severity=1, indices=indices)
    with pytest.raises(RecipeError, match=r"unknown name 'gausian_noise'; did you mean 'gaussian_noise'"):
        corrupt("gausian_noise", images, severity=1, indices=indices)
    for severity in (0, 6):
        with pytest.raises(ValueError, match=rf"severity is {severity}; wanted"):
            corrupt("fog", images, severity=severity, indices=indices)
    with pytest.raises(ValueError, match=r"images lie between .*wanted \[0, 1\], not normalised"):
        corrupt("fog", images * 3 - 1, severity=1, indices=indices)
    with pytest.raises(ValueError, match=r"not normalised"):
        corrupt("fog", images * torch.nan, severity=1, indices=indices)
    with pytest.raises(ValueError, match=r"wanted floats \(N, C, H, W\)"):
        corrupt("fog", torch.rand(2, 4, 8, 8), severity=1, indices=indices)
    with pytest.raises(ValueError, match=r"wanted floats \(N, C, H, W\)"):
        corrupt("fog", (images * 255).byte(), severity=1, indices=indices)
    with pytest.raises(ValueError, match=r"one whole number for each of 2 images"):
        corrupt("fog", images, severity=1, indices=torch.arange(3))
    with pytest.raises(ValueError, match=r"seed is -1"):
        corrupt("fog", images, severity=1, indices=indices, seed=-1)
    with pytest.raises(ValueError, match=r"1 x 8 pixels"):
        corrupt("fog", images[:, :, :1], severity=1, indices=indices)
