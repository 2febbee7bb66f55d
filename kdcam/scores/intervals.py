"""Means over seeds, differences by seed, and epochs to reach a level: plain functions of numbers."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CONFIDENCE_LEVEL = 0.95


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
    from scipy.special import stdtrit

    return float(stdtrit(freedom, share))


def epochs_to_reach(curve: Sequence[float | None], level: float) -> int | None:
    """Return the first epoch, counted from 1, whose score is at least ``level``; None where none is."""
    return next(
        (epoch for epoch, score in enumerate(curve, start=1) if score is not None and score >= level), None
    )


def median_epochs(counts: Sequence[int | None]) -> float | None:
    """Return the median of counts, of which None is more than any number; None where the median is."""
    middle = statistics.median(math.inf if count is None else count for count in counts)
    return float(middle) if math.isfinite(middle) else None


__all__ = [
    "CONFIDENCE_LEVEL",
    "PairedDifference",
    "Summary",
    "epochs_to_reach",
    "mean_and_deviation",
    "median_epochs",
    "paired_seed_difference",
    "t_quantile",
]
