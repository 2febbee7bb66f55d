"""Tests of kdcam.attacks.square_attack; beside other implementations: test_peers.py."""

import pytest
import torch
from small_attacks import Linear, fooled
from torch import Tensor, nn

from kdcam.attacks import CountedClassifier, square
from kdcam.attacks.square_attack import bump, random_signs, square_sides, tiles, two_windows, window


def test_squares_shrink_as_in_the_paper() -> None:
    sides = square_sides(10_000, 0.8, height=32, width=32)
    # sqrt(0.8 * 32 * 32) = 28.6, and half the area after 10, 50, 200 ... queries
    assert [sides[query] for query in (0, 10, 11, 50, 51, 200, 201, 501)] == [29, 29, 20, 20, 14, 14, 10, 7]
    assert sides[-1] == 1
    assert sides == sorted(sides, reverse=True)
    assert square_sides(1000, 0.8, height=32, width=32) == sides[::10]
    assert square_sides(5, 1.0, height=40, width=10)[0] == 10


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.15), ("l2", 0.8)])
def test_more_queries_fool_more_and_stay_in_the_ball(
    norm: str, eps: float, trained: nn.Module, attacked: tuple[Tensor, Tensor]
) -> None:
    images, labels = attacked[0][:100], attacked[1][:100]
    counts = []
    for queries in (1, 30, 300):
        found = square(trained, images, labels, eps=eps, norm=norm, n_queries=queries)
        change = (found - images).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert size.max() <= eps + 1e-6
        assert 0 <= found.min() <= found.max() <= 1
        counts.append(int(fooled(trained, found, labels).sum()))
    assert counts == sorted(counts)
    assert counts[2] > counts[0] + 10


def test_only_forward_passes_and_no_more_than_allowed() -> None:
    images, labels = torch.full((3, 1, 4, 4), 0.5), torch.ones(3, dtype=torch.int64)

    class Frozen(nn.Module):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return Linear(torch.ones(1, 4, 4))(images - 0.2)

    counted = CountedClassifier(Frozen())
    square(counted, images, labels, eps=0.01, n_queries=300)
    assert (counted.forwards, counted.backwards) == (900, 0)
    assert fooled(counted, square(counted, images, labels, eps=0.6, n_queries=50), labels).all()
    assert counted.forwards < 900 + 3 * 51


def test_an_image_that_falls_keeps_its_first_fooling_change(
    trained: nn.Module, attacked: tuple[Tensor, Tensor]
) -> None:
    images, labels = attacked[0][:60], attacked[1][:60]
    # The same schedule cannot be had with fewer queries, so the drop-out is seen in what it costs.
    counted = CountedClassifier(trained)
    found = square(counted, images, labels, eps=0.15, n_queries=200)
    standing = int((~fooled(trained, found, labels)).sum())
    assert 0 < standing < 40
    assert standing * 200 < counted.forwards < 60 * 200 * 0.9


def test_choices_follow_from_seed_and_index(trained: nn.Module, attacked: tuple[Tensor, Tensor]) -> None:
    images, labels = attacked[0][:10], attacked[1][:10]
    indices = torch.arange(50, 60)
    whole = square(trained, images, labels, eps=0.05, n_queries=20, indices=indices)
    again = square(trained, images[4:], labels[4:], eps=0.05, n_queries=20, indices=indices[4:])
    assert torch.equal(whole[4:], again)
    for change in ({"seed": 1}, {"indices": indices + 1}):
        other = square(trained, images, labels, eps=0.05, n_queries=20, **{"indices": indices, **change})
        assert not torch.equal(other, whole)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 3), (1, 4, 9), (2, 11, 6)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_any_shape(shape: tuple[int, ...], norm: str) -> None:
    images = torch.full((2, *shape), 0.5)
    model = Linear(torch.ones(shape))
    found = square(model, images, torch.ones(2, dtype=torch.int64), eps=0.1, norm=norm, n_queries=30)
    assert found.isfinite().all()
    assert model(found)[:, 1].max() < model(images)[:, 1].min()  # it moved the right way


def test_settings_that_cannot_be_are_refused(trained: nn.Module, attacked: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="n_queries is 0; wanted at least 1"):
        square(trained, *attacked, eps=0.1, n_queries=0)
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=rf"p_init is {share}; wanted a share of the pixels in \(0, 1\]"):
            square(trained, *attacked, eps=0.1, p_init=share)


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
