"""Means over episodes with their 95 % intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy

WIDTH = 1.96  # standard errors to each side of the mean: 95 % of a normal distribution


class Interval(NamedTuple):
    """A mean over episodes, and how far the 95 % interval reaches to each side of it.

    The interval covers the draw of the episodes alone, not that of the images or classes: the same images come again
    in many episodes (arXiv 2409.02850), so more episodes narrow it without any new image.
    """

    mean: float
    interval: float | None  # None: one episode tells no spread
    samples: int  # episodes, or runs


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of ``values`` and 1.96 s / sqrt(n), s being the sample standard deviation (n - 1).

    Raises ``ValueError`` where there is none.
    """
    if not len(values):
        raise ValueError("no value to take the mean of")
    numbers = numpy.asarray(values, dtype=numpy.float64)
    half = None
    if len(numbers) > 1:
        half = WIDTH * float(numbers.std(ddof=1)) / math.sqrt(len(numbers))
    return Interval(float(numbers.mean()), half, len(numbers))


def episode_difference(values: Sequence[float], base: Sequence[float]) -> Interval:
    """Return how much larger ``values`` are than ``base``, episode by episode: the mean difference and its interval.

    On the same episodes this is narrower than what two intervals tell: easy episodes are easy for both.

    Raises ``ValueError`` where their numbers differ.
    """
    if len(values) != len(base):
        raise ValueError(f"{len(values)} values and {len(base)} of the base; wanted: one pair an episode")
    return mean_interval([value - other for value, other in zip(values, base, strict=True)])


__all__ = ["WIDTH", "Interval", "episode_difference", "mean_interval"]
