"""How many queries of each episode a head gets right, episode by episode on features found once."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.episodes import Episodes
from kdcam.errors import Interrupted
from kdcam.evaluation.few_shot.few_shot_schema import FewShotHead
from kdcam.evaluation.few_shot.linear_heads import cosine_head_scores, linear_head_scores, logistic_scores
from kdcam.evaluation.few_shot.prototypes import cosine_scores, euclidean_scores
from kdcam.runtime.progress import Progress, Silent

_NUMBERS_AT_ONCE = 2**20  # of embeddings gathered at a time: 4 MiB, about what a processor's cache holds


class EpisodeFeatures(NamedTuple):
    """The embeddings of T episodes of W classes."""

    support: Tensor  # (T, W, S, E)
    query: Tensor  # (T, Q, E)
    first: int  # the first one's number among all episodes
    seed: int  # for heads that draw

    @property
    def seeds(self) -> list[tuple[int, int]]:
        """One for each episode, which depends on no other."""
        return [(self.seed, number) for number in range(self.first, self.first + len(self.support))]


HEADS: Mapping[FewShotHead, Callable[[EpisodeFeatures], Tensor]] = {
    "prototype": lambda episodes: euclidean_scores(episodes.support, episodes.query),
    "cosine-prototype": lambda episodes: cosine_scores(episodes.support, episodes.query),
    "logistic": lambda episodes: logistic_scores(episodes.support, episodes.query),
    "baseline": lambda episodes: linear_head_scores(episodes.support, episodes.query, seeds=episodes.seeds),
    "baseline++": lambda episodes: cosine_head_scores(episodes.support, episodes.query, seeds=episodes.seeds),
}
"""Each gives scores (T, Q, W): the largest tells the class."""


def correct_queries(
    embeddings: Tensor,
    episodes: Episodes,
    head: FewShotHead,
    *,
    seed: int = 0,
    task: str = "episodes",
    progress: Progress | None = None,
) -> Tensor:
    """Return how many of each episode's queries a head tells rightly, (T,) int64 from 0 to ways * queries.

    Args:
        embeddings: (N, E) float32 of the images that the episodes are of.
        episodes: Which images.
        head: What is made of an episode's support images.
        seed: For heads that draw their starting weights; with an episode's number it decides its draw.
        task: What the watcher is told this is.
        progress: Who watches.

    Raises ``Interrupted`` where the watcher asks to stop.
    """
    watcher = progress or Silent()
    scores = HEADS[head]
    labels = query_labels(episodes)
    total, images = len(episodes.classes), episodes.support.shape[1] + episodes.query.shape[1]
    at_once = max(1, _NUMBERS_AT_ONCE // (images * embeddings.shape[1]))
    right = torch.empty(total, dtype=torch.int64)
    with torch.no_grad():
        for start in range(0, total, at_once):
            stop_few_shot_if_asked(watcher)
            piece = slice(start, min(start + at_once, total))
            features = _gathered(embeddings, episodes, piece, seed)
            right[piece] = (scores(features).argmax(2) == labels).sum(1)
            watcher.advance(task, piece.stop, total)
    return right


def query_labels(episodes: Episodes) -> Tensor:
    """Return which of an episode's classes each query is of, (ways * queries,) int64, the same in all episodes."""
    return torch.arange(episodes.ways).repeat_interleave(episodes.queries)


def stop_few_shot_if_asked(progress: Progress) -> None:
    """Raise ``Interrupted`` where the watcher asks to stop."""
    if progress.should_stop():
        raise Interrupted(
            "the few-shot evaluation was stopped; nothing was written, the same command starts it over"
        )


def _gathered(embeddings: Tensor, episodes: Episodes, piece: slice, seed: int) -> EpisodeFeatures:
    support = _rows(embeddings, episodes.support[piece]).unflatten(1, (episodes.ways, episodes.shots))
    return EpisodeFeatures(support, _rows(embeddings, episodes.query[piece]), piece.start, seed)


def _rows(embeddings: Tensor, positions: Tensor) -> Tensor:
    # At two thirds of the time that embeddings[positions] takes.
    rows = embeddings.index_select(0, positions.flatten())
    return rows.view(*positions.shape, -1)


__all__ = ["HEADS", "EpisodeFeatures", "correct_queries", "query_labels", "stop_few_shot_if_asked"]
