"""Means with their 95 % intervals, over episodes and over seeds, and differences of pairs."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy

CONFIDENCE_LEVEL = 0.95
_NORMAL_WIDTH = 1.96  # standard errors to each side of the mean: 95 % of a normal distribution


class Interval(NamedTuple):
    """A mean over episodes, and how far the 95 % interval reaches to each side of it.

    The interval covers the draw of the episodes alone, not that of the images or classes: the same images come again
    in many episodes (arXiv 2409.02850), so more episodes narrow it without any new image.
    """

    mean: float
    interval: float | None  # None: one episode tells no spread
    samples: int  # episodes, or runs


@dataclass(frozen=True)
class Summary:
    """Some numbers of one kind."""

    mean: float
    sd: float | None  # sample standard deviation (n - 1); None: of one number there is none
    count: int  # of numbers


@dataclass(frozen=True)
class PairedDifference:
    """The mean of differences, one a seed that both sides have."""

    mean: float
    low: float | None  # the 95 % interval of the mean; None: one pair tells no spread
    high: float | None
    pairs: int


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of ``values`` and 1.96 s / sqrt(n), s being the sample standard deviation (n - 1).

    Raises ``ValueError`` where there is none.
    """
    if not len(values):
        raise ValueError("no value to take the mean of")
    numbers = numpy.asarray(values, dtype=numpy.float64)
    half = None
    if len(numbers) > 1:
        half = _NORMAL_WIDTH * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return Interval(float(numbers.mean()), half, len(numbers))


def episode_difference(values: Sequence[float], base: Sequence[float]) -> Interval:
    """Return how much larger ``values`` are than ``base``, episode by episode: the mean difference and its interval.

    On the same episodes this is narrower than what two intervals tell: easy episodes are easy for both.

    Raises ``ValueError`` where their numbers differ.
    """
    if len(values) != len(base):
        raise ValueError(f"{len(values)} values and {len(base)} of the base; wanted: one pair an episode")
    return mean_interval([value - other for value, other in zip(values, base, strict=True)])


def mean_and_deviation(values: Sequence[float]) -> Summary | None:
    """Return mean and sample standard deviation; None of no number."""
    if not values:
        return None
    # The standard library's are exact: equal numbers have just their value as mean, and no spread.
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Summary(statistics.mean(values), sd, len(values))


def paired_seed_difference(
    values: Mapping[int, float], base: Mapping[int, float], *, confidence: float = CONFIDENCE_LEVEL
) -> PairedDifference | None:
    """Return how much larger ``values`` are than ``base``, both by seed, over the seeds that both have.

    The interval is Student's, of the mean of the differences: mean -+ t * sd / sqrt(n) with n - 1 degrees of
    freedom. It takes the differences as normally distributed, and seeds as drawn at random.

    Returns None where no seed is common.
    """
    seeds = sorted(values.keys() & base.keys())
    found = mean_and_deviation([values[seed] - base[seed] for seed in seeds])
    if found is None:
        return None
    if found.sd is None:
        return PairedDifference(found.mean, None, None, 1)
    half = t_quantile((1 + confidence) / 2, found.count - 1) * found.sd / math.sqrt(found.count)
    return PairedDifference(found.mean, found.mean - half, found.mean + half, found.count)


def t_quantile(share: float, freedom: int) -> float:
    """Return the value below which Student's t of so many degrees of freedom lies with probability ``share``."""
    from scipy.special import stdtrit  # slow to import, and only a comparison needs it

    return float(stdtrit(freedom, share))


__all__ = [
    "CONFIDENCE_LEVEL",
    "Interval",
    "PairedDifference",
    "Summary",
    "episode_difference",
    "mean_and_deviation",
    "mean_interval",
    "paired_seed_difference",
    "t_quantile",
]
