"""Times of things that are done in turn, in random order, so that a change of the machine's speed meets all alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from kdcam.runtime.machine import describe_machine, package_versions

WARM_UP = 5


def timed(jobs: Mapping[str, Callable[[], object]], *, steps: int) -> dict[str, np.ndarray]:
    """Return the seconds of each job, ``steps`` of each after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    order = np.random.default_rng(0)
    for step in range(WARM_UP + steps):
        for name in order.permutation(list(jobs)):
            start = time.perf_counter()
            jobs[name]()
            spent = time.perf_counter() - start
            if step >= WARM_UP:
                seconds[name].append(spent)
    return {name: np.array(values) for name, values in seconds.items()}


def rows(times: Mapping[str, np.ndarray], base: str) -> dict[str, dict[str, Any]]:
    """Return each job's median, and its ratio to the base's with a 95 % bootstrap interval."""
    return {name: _row(values, times[base]) for name, values in times.items()}


def facts() -> dict[str, Any]:
    """Return what a measurement holds for."""
    return {
        "threads": torch.get_num_threads(),
        "machine": describe_machine(),
        "versions": package_versions(),
    }


def interval(base: np.ndarray, other: np.ndarray, rounds: int = 5000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the ratio of medians."""
    generator = np.random.default_rng(0)
    draws = [
        np.median(generator.choice(other, len(other))) / np.median(generator.choice(base, len(base)))
        for _ in range(rounds)
    ]
    low, high = np.percentile(draws, [2.5, 97.5]).tolist()
    return low, high


def _row(values: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"median_milliseconds": round(1e3 * float(np.median(values)), 3)}
    if values is not base:
        row["ratio"] = round(float(np.median(values) / np.median(base)), 4)
        row["interval_95"] = [round(bound, 4) for bound in interval(base, values)]
    return row
