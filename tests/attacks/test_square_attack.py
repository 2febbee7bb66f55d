"""Tests of kdcam.attacks.square_attack; beside other implementations: test_peers.py."""

import pytest
import torch
from small_attacks import Linear, fooled
from torch import Tensor, nn

from kdcam.attacks import CountedClassifier, square
from kdcam.attacks.square_attack import square_sides


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
