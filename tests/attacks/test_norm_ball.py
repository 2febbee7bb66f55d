"""Tests of kdcam.attacks.norm_ball."""

import pytest
import torch

from kdcam.attacks.budget import Norm
from kdcam.attacks.norm_ball import NormBall


@pytest.fixture
def clean() -> torch.Tensor:
    return torch.rand(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def length(change: torch.Tensor, norm: Norm) -> torch.Tensor:
    return change.flatten(1).abs().amax(1) if norm == "linf" else change.flatten(1).norm(dim=1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projection_ends_in_the_ball_and_leaves_its_points_alone(norm: Norm, clean: torch.Tensor) -> None:
    ball = NormBall(norm, 0.3)
    change = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    projected = ball.project(clean + change, clean)
    assert (length(projected - clean, norm) <= 0.3 + 1e-6).all()
    torch.testing.assert_close(ball.project(projected, clean), projected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_directions_have_length_one_and_zero_stays_zero(norm: Norm, clean: torch.Tensor) -> None:
    direction = NormBall(norm, 0.3).direction(clean - 0.5)
    torch.testing.assert_close(length(direction, norm), torch.ones(64))
    assert NormBall(norm, 0.3).direction(torch.zeros(2, 3, 4, 4)).eq(0).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("scale", [1e-35, 1e-20, 1e-13, 1e30])
def test_directions_do_not_hang_on_the_size_of_gradients(
    scale: float, norm: Norm, clean: torch.Tensor
) -> None:
    ball, gradient = NormBall(norm, 0.3), clean - 0.5
    gradient[3] = 0
    sizes = torch.tensor([scale, 1.0]).repeat(32).view(64, 1, 1, 1)  # of two neighbours each has its own
    torch.testing.assert_close(ball.direction(gradient * sizes), ball.direction(gradient))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_changes_fill_the_ball_and_follow_from_their_own_seed(norm: Norm, clean: torch.Tensor) -> None:
    ball = NormBall(norm, 0.3)
    changes = ball.random_changes(clean, seeds=[(5, index) for index in range(64)])
    lengths = length(changes, norm)
    assert (lengths <= 0.3 + 1e-6).all()
    assert lengths.mean() > 0.25  # 48 dimensions: nearly all of a ball lies near its surface
    assert changes.mean().abs() < 0.02
    alone = ball.random_changes(clean[7:8], seeds=[(5, 7)])
    assert torch.equal(alone[0], changes[7])
    assert not torch.equal(changes[0], changes[1])
