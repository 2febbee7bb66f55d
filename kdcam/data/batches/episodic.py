"""The order of images in episodic training: each batch is a few-shot task of its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdcam.data.batches.episodes import draw_episodes
from kdcam.data.episodes_config import EpisodesConfig
from kdcam.errors import DataError
from kdcam.runtime.seeding import seeded_generator

_EPISODES = 4  # 0 to 3 are other draws of an epoch


class EpisodeOrder:
    """Which images the batches of an epoch hold, a function of (seed, epoch, batch number) alone."""

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
        seed = int(torch.randint(2**62, (), generator=seeded_generator(self._seed, epoch, _EPISODES)))
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


__all__ = ["EpisodeOrder", "check_ways"]
