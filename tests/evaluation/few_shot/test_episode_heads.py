import pytest
import torch
from small_runs import Watcher
from torch import Tensor

from kdcam.data.batches.episodes import Episodes, draw_episodes
from kdcam.errors import Interrupted
from kdcam.evaluation.few_shot import episode_heads
from kdcam.evaluation.few_shot.episode_heads import HEADS, correct_queries, query_labels
from kdcam.evaluation.few_shot.few_shot_schema import FewShotHead

TARGETS = torch.arange(6).repeat_interleave(12)


def table(spread: float) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(6, 20, generator=generator)
    return middles[TARGETS] + spread * torch.randn(72, 20, generator=generator)


def drawn(shots: int = 2) -> Episodes:
    return draw_episodes(TARGETS, ways=4, shots=shots, queries=5, episodes=30, seed=0)


@pytest.mark.parametrize("head", HEADS)
def test_classes_far_apart_are_told_apart_and_noise_is_not(head: FewShotHead) -> None:
    assert (correct_queries(table(0.01), drawn(), head) == 20).all()
    noise = torch.randn(72, 20, generator=torch.Generator().manual_seed(1))
    # Chance is 5 of 20; the mean of 30 episodes has a standard deviation of about 0.4.
    assert 3 < float(correct_queries(noise, drawn(), head).double().mean()) < 7


@pytest.mark.parametrize("head", HEADS)
def test_pieces_change_nothing(head: FewShotHead, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = correct_queries(table(1.0), drawn(), head)
    monkeypatch.setattr(episode_heads, "_NUMBERS_AT_ONCE", 7 * 28 * 20)
    assert torch.equal(correct_queries(table(1.0), drawn(), head), whole)


def test_more_shots_help() -> None:
    few, many = (correct_queries(table(1.5), drawn(shots), "prototype").double().mean() for shots in (1, 6))
    assert many > few + 1


def test_the_seed_moves_only_heads_that_draw() -> None:
    for head in HEADS:
        one, other = (correct_queries(table(1.5), drawn(1), head, seed=seed) for seed in (0, 1))
        assert torch.equal(one, other) == (not head.startswith("baseline"))


def test_query_labels_follow_the_classes() -> None:
    episodes = drawn()
    assert torch.equal(episodes.classes[3][query_labels(episodes)], TARGETS[episodes.query[3]])


def test_stops_where_asked() -> None:
    with pytest.raises(Interrupted, match=r"was stopped; nothing was written"):
        correct_queries(table(1.0), drawn(), "prototype", progress=Watcher(stop_after=1))
