"""Few-shot episodes drawn from a seed: for evaluation, and as the batches of episodic training."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.batch import EPISODE_STREAM
from kdcam.data.common_config import EpisodesConfig
from kdcam.errors import DataError
from kdcam.runtime.seeding import seeded_generator


class Episodes(NamedTuple):
    """Tasks of ``ways`` classes each; images class by class, in the order of ``classes``."""

    support: Tensor  # (T, ways * shots) int64, positions of images
    query: Tensor  # (T, ways * queries) int64, positions of images; none is in the episode's support
    classes: Tensor  # (T, ways) int64, labels

    @property
    def ways(self) -> int:
        """Classes in an episode."""
        return self.classes.shape[1]

    @property
    def shots(self) -> int:
        """Support images of each class."""
        return self.support.shape[1] // self.ways

    @property
    def queries(self) -> int:
        """Query images of each class."""
        return self.query.shape[1] // self.ways

    @property
    def digest(self) -> str:
        """The SHA-256 of the positions of all images: equal for equal episodes."""
        positions = torch.cat([self.support, self.query], 1).cpu().contiguous()
        return hashlib.sha256(positions.numpy().astype("<i8").tobytes()).hexdigest()


def draw_episodes(
    targets: Tensor,
    *,
    ways: int,
    shots: int,
    queries: int,
    episodes: int,
    seed: int,
    label_names: Sequence[str] = (),
) -> Episodes:
    """Return seeded episodes over images with labels ``targets`` (N,).

    Each episode takes ``ways`` different classes, all equally likely, and of each class ``shots`` + ``queries``
    different images, all equally likely. Images come again in other episodes. The first episodes of a longer draw are
    those of a shorter one.

    Args:
        targets: (N,) int64; labels without an image count for nothing.
        ways: Classes in an episode.
        shots: Support images of each class.
        queries: Query images of each class.
        episodes: How many.
        seed: At least 0; it decides all.
        label_names: The classes' names, for messages.

    Raises ``DataError`` where there are too few classes, or a class has too few images.
    """
    for name, value in {"ways": ways, "shots": shots, "queries": queries, "episodes": episodes}.items():
        if value < 1:
            raise ValueError(f"{name} is {value}; allowed: 1 or more")
    labels, counts = torch.unique(targets.cpu(), return_counts=True)
    _check_enough(labels, counts, ways, shots, queries, label_names)
    each = shots + queries
    # One row of numbers an episode, drawn in turn, so that an episode does not depend on how many follow.
    uniform = torch.rand(
        episodes,
        2 * ways + 2 * ways * each,
        generator=seeded_generator(seed, ways, shots, queries),
        dtype=torch.float64,
    )
    chosen = _drawn(counts.new_full((episodes,), len(labels)), uniform[:, : 2 * ways])  # (T, ways)
    picks = _drawn(counts[chosen].flatten(), uniform[:, 2 * ways :].reshape(episodes * ways, 2 * each))
    starts = counts.cumsum(0) - counts
    by_class = torch.argsort(targets.cpu(), stable=True)
    images = by_class[starts[chosen][..., None] + picks.view(episodes, ways, each)]
    return Episodes(images[..., :shots].flatten(1), images[..., shots:].flatten(1), labels[chosen])


def _drawn(counts: Tensor, uniform: Tensor) -> Tensor:
    """Return in each row M different numbers from 0 to its count - 1, in random order; all rows at once.

    Floyd's sampling (Bentley and Floyd 1987, "A sample of brilliance"), whose set is random but whose order is not, and
    a shuffle.

    Args:
        counts: (R,) int64, at least M each.
        uniform: (R, 2 M) in [0, 1); the first half decides the set, the other the order.
    """
    size = uniform.shape[1] // 2
    chosen = counts.new_empty(len(counts), size)
    for number in range(size):
        last = counts - size + number
        # The product may round up to the count itself.
        pick = torch.minimum((uniform[:, number] * (last + 1)).long(), last)
        taken = (chosen[:, :number] == pick[:, None]).any(1)
        chosen[:, number] = torch.where(taken, last, pick)
    return chosen.gather(1, uniform[:, size:].argsort(dim=1, stable=True))


def _check_enough(
    labels: Tensor, counts: Tensor, ways: int, shots: int, queries: int, label_names: Sequence[str]
) -> None:
    if len(labels) < ways:
        raise DataError(
            f"episodes: {ways} ways need {ways} classes with images, and there are {len(labels)}; "
            f"take at most {len(labels)} ways (--ways), or data with more classes"
        )
    least = int(counts.argmin())
    found = int(counts[least])
    if found < shots + queries:
        label = int(labels[least])
        name = label_names[label] if label < len(label_names) else str(label)
        possible = found - shots
        way_out = (
            f"take at most {possible} queries (--queries)" if possible > 0 else "take fewer shots (--shots)"
        )
        raise DataError(
            f"episodes: class {name!r} has {found} images, and {shots} shots + {queries} queries need "
            f"{shots + queries}; {way_out}, or give the class more images"
        )


class EpisodeOrder:
    """Which images the batches of an epoch hold: episodes, a function of (seed, epoch, batch number) alone."""

    def __init__(
        self, targets: Tensor, config: EpisodesConfig, *, seed: int, label_names: Sequence[str]
    ) -> None:
        """Check the labels ``targets`` (N,) of the training part.

        Raises ``DataError`` where there are too few classes for the ways, or too few images of a class for shots and
        queries.
        """
        check_ways(config, len(label_names))
        counts = torch.bincount(targets, minlength=len(label_names))
        least, wanted = int(counts.argmin()), config.shots + config.queries
        if int(counts[least]) < wanted:
            raise DataError(
                f"episodes: class {label_names[least]!r} has {int(counts[least])} training images, and {config.shots} "
                f"shots + {config.queries} queries need {wanted}; lower episodes.shots or episodes.queries, or give "
                "the class more images"
            )
        self._targets, self._config, self._seed = targets, config, seed
        size = config.images
        self.bounds = [(start, start + size) for start in range(0, config.per_epoch * size, size)]

    def of_epoch(self, epoch: int) -> Tensor:
        """Return the positions of the images of all batches of an epoch, (per_epoch * images of an episode,) int64."""
        config = self._config
        # The draw is seeded by one number, which seed and epoch decide.
        seed = int(torch.randint(2**62, (), generator=seeded_generator(self._seed, epoch, EPISODE_STREAM)))
        drawn = draw_episodes(
            self._targets,
            ways=config.ways,
            shots=config.shots,
            queries=config.queries,
            episodes=config.per_epoch,
            seed=seed,
        )
        return torch.cat([drawn.support, drawn.query], 1).flatten()

    def variant(self, epoch: int, number: int) -> int:
        """Return a number that no other batch of the run has: an image may come again in an epoch."""
        return epoch * len(self.bounds) + number


def check_ways(config: EpisodesConfig, classes: int) -> None:
    """Raise ``DataError`` where the data has fewer classes than an episode."""
    if classes < config.ways:
        raise DataError(
            f"episodes: found ways = {config.ways}, but the data has {classes} classes to train on; lower "
            "episodes.ways, or take more classes"
        )


__all__ = [
    "EpisodeOrder",
    "Episodes",
    "check_ways",
    "draw_episodes",
]
