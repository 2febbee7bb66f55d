"""Tests of kdcam.attacks.square_attack."""

import pytest
import torch

from kdcam.attacks.square_attack import bump, random_signs, tiles, two_windows, window


def test_signs_by_hand() -> None:
    assert random_signs(torch.tensor([0.0, 0.49, 0.5, 0.99])).tolist() == [-1, -1, 1, 1]


def test_a_bump_by_hand() -> None:
    # Halves (1, 3) and (2, 3). Rings around (0, 1): 1 0 1; around (1, 1): 1 1 1 / 1 0 1. Tails of 1 + 1/4: 1.25, 0.25.
    rings = torch.tensor([[0.25, 1.25, 0.25], [-0.25, -0.25, -0.25], [-0.25, -1.25, -0.25]])
    torch.testing.assert_close(bump(3).float(), rings / rings.norm())


@pytest.mark.parametrize("side", [1, 2, 3, 6, 7, 29])
def test_a_bump_has_norm_one_and_two_signs(side: int) -> None:
    pattern = bump(side)
    assert pattern.shape == (side, side)
    assert pattern.norm() == pytest.approx(1)
    assert (pattern[: side // 2] > 0).all()
    assert (pattern[side // 2 :] < 0).all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 28), (7, 12), (3, 3)])
def test_tiles_have_norm_one_and_cover_the_middle(height: int, width: int) -> None:
    change = tiles(torch.rand(4, 3, height, width, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(change.flatten(1).norm(dim=1), torch.ones(4))
    assert (change != 0).float().mean() > 0.6
    assert not torch.equal(change[0], change[1])


def test_a_window_covers_one_square_of_each_image() -> None:
    like = torch.zeros(3, 2, 5, 7)
    mask = window(torch.tensor([0.0, 0.5, 0.999999]), torch.tensor([0.0, 0.3, 0.999999]), 2, like)
    assert mask.shape == (3, 1, 5, 7)
    for image, (top, left) in enumerate([(0, 0), (2, 1), (3, 5)]):
        expected = torch.zeros(5, 7, dtype=torch.bool)
        expected[top : top + 2, left : left + 2] = True
        assert torch.equal(mask[image, 0], expected)


def test_two_windows_keep_the_budget_and_empty_the_second() -> None:
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(6, 3, 9, 9, generator=generator, dtype=torch.float64)
    norms = change.flatten(1).norm(dim=1).view(6, 1, 1, 1)
    change = change / norms * torch.tensor([1.0, 1.0, 1.0, 0.5, 0.1, 0.0]).view(6, 1, 1, 1)
    corners = torch.rand(6, 4, generator=generator, dtype=torch.float64)
    corners[0] = torch.tensor([0.0, 0.0, 0.99, 0.99])
    signs = torch.ones(6, 3, dtype=torch.float64)
    turned = torch.tensor([True, False] * 3)
    found = two_windows(change, eps=1.0, pattern=bump(3), corners=corners, turned=turned, signs=signs)
    torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.ones(6, dtype=torch.float64))
    first = window(corners[:, 0], corners[:, 1], 3, change)
    second = window(corners[:, 2], corners[:, 3], 3, change)
    outside = (~(first | second)).expand_as(change)
    assert torch.equal(found[outside], change[outside])
    assert (found[(second & ~first).expand_as(change)] == 0).all()
    assert (found[0, :, 6:, 6:] == 0).all()
