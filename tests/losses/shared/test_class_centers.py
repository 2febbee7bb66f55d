import torch
from torch import Tensor
from two_processes import on_two_processes

from kdcam.losses.shared.class_centers import LearnedCenters, MovedCenters


def test_moved_centres_start_at_the_mean_and_follow_as_in_center_loss() -> None:
    centers = MovedCenters(3, 2, rate=0.5)
    first = centers(torch.tensor([[1.0, 1.0], [3.0, 1.0], [0.0, 4.0]]), torch.tensor([0, 0, 2]))
    assert first.positions.tolist() == [[2.0, 1.0], [0.0, 0.0], [0.0, 4.0]]
    assert first.seen.tolist() == [True, False, True]
    second = centers(torch.tensor([[5.0, 1.0]]), torch.tensor([0]))
    assert second.positions.tolist() == first.positions.tolist()  # those that the step compares with
    # c - 0.5 * (c - x) / (1 + 1) = (2, 1) + (3, 0) / 4
    assert centers.positions[0].tolist() == [2.75, 1.0]


def test_learned_centres_are_parameters_and_all_there() -> None:
    centers = LearnedCenters(3, 2)
    positions, seen = centers(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    assert positions is centers.positions
    assert seen.all()


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(8, 3, generator=generator), torch.randint(4, (8,), generator=generator))
        for _ in range(3)
    ]


def _follow(rank: int) -> dict[str, Tensor]:
    centers = MovedCenters(4, 3, rate=0.5)
    for embedding, targets in batches():
        centers(embedding[rank::2], targets[rank::2])
    return centers.state_dict()


def test_two_processes_move_centres_as_one_with_the_doubled_batch() -> None:
    alone = MovedCenters(4, 3, rate=0.5)
    for embedding, targets in batches():
        alone(embedding, targets)
    for found in on_two_processes(_follow):
        torch.testing.assert_close(found["positions"], alone.positions)
        assert torch.equal(found["seen"], alone.seen)
