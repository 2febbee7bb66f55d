import math
import random
import statistics

import numpy
import pytest
from scipy import stats

from kdcam.scores.intervals import (
    episode_difference,
    mean_and_deviation,
    mean_interval,
    paired_seed_difference,
    t_quantile,
)

VALUES = numpy.random.default_rng(0).integers(20, 76, 600) / 75


def test_mean_and_sample_standard_deviation_of_hand_worked_numbers() -> None:
    found = mean_and_deviation([1.0, 2.0, 6.0])
    assert found is not None
    assert found.mean == 3.0
    assert found.sd == pytest.approx(math.sqrt(7))  # (4 + 1 + 9) / 2
    assert found.count == 3


def test_one_number_has_no_spread_and_none_has_nothing() -> None:
    found = mean_and_deviation([0.25])
    assert found is not None
    assert (found.mean, found.sd, found.count) == (0.25, None, 1)
    assert mean_and_deviation([]) is None


def test_equal_numbers_have_their_value_as_mean_and_no_spread() -> None:
    found = mean_and_deviation([0.1, 0.1, 0.1])  # their rounded sum over 3 is above 0.1
    assert found is not None
    assert (found.mean, found.sd) == (0.1, 0.0)


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_the_interval_is_that_of_scipys_paired_t_test(count: int) -> None:
    drawn = random.Random(count)
    one = {seed: drawn.gauss(0.7, 0.02) for seed in range(count)}
    other = {seed: drawn.gauss(0.6, 0.02) for seed in range(count)}
    found = paired_seed_difference(one, other)
    expected = stats.ttest_rel(list(one.values()), list(other.values())).confidence_interval(0.95)
    assert found is not None
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)
    assert found.mean == pytest.approx(statistics.fmean(one.values()) - statistics.fmean(other.values()))
    assert found.pairs == count


def test_only_common_seeds_are_paired() -> None:
    found = paired_seed_difference({0: 0.5, 1: 0.7, 9: 99.0}, {1: 0.6, 0: 0.3, 8: -99.0})
    assert found is not None
    assert found.pairs == 2
    assert found.mean == pytest.approx(0.15)
    # Differences 0.2 and 0.1: sd 0.0707, t of one degree of freedom 12.706.
    assert found.high == pytest.approx(0.15 + 12.7062 * 0.05, abs=1e-5)
    assert found.low == pytest.approx(0.15 - 12.7062 * 0.05, abs=1e-5)


def test_one_pair_has_no_interval_and_no_pair_no_difference() -> None:
    found = paired_seed_difference({0: 0.5, 1: 0.6}, {1: 0.5, 2: 0.1})
    assert found is not None
    assert (found.low, found.high, found.pairs) == (None, None, 1)
    assert paired_seed_difference({0: 0.5}, {1: 0.5}) is None


def test_the_quantiles_of_the_tables() -> None:
    assert t_quantile(0.975, 4) == pytest.approx(2.776, abs=5e-4)
    assert t_quantile(0.5, 3) == pytest.approx(0.0, abs=1e-12)


def test_equals_numpy_and_scipy() -> None:
    found = mean_interval(VALUES.tolist())
    assert found.mean == pytest.approx(VALUES.mean())
    assert found.interval == pytest.approx(1.96 * VALUES.std(ddof=1) / numpy.sqrt(600))
    assert found.interval == pytest.approx(1.96 * stats.sem(VALUES))
    assert found.samples == 600


def test_close_to_students_t_and_to_the_released_codes_interval() -> None:
    found = mean_interval(VALUES.tolist()).interval
    assert found == pytest.approx(stats.sem(VALUES) * stats.t.ppf(0.975, 599), rel=3e-3)
    assert found == pytest.approx(1.96 * VALUES.std() / numpy.sqrt(600), rel=1e-3)


def test_one_value_tells_no_spread() -> None:
    assert mean_interval([0.5]) == (0.5, None, 1)


def test_pairs_on_the_same_episodes_are_narrower() -> None:
    better = VALUES + 0.01
    found = episode_difference(better.tolist(), VALUES.tolist())
    assert found.mean == pytest.approx(0.01)
    assert found.interval == pytest.approx(0, abs=1e-12)


def test_paired_difference_is_the_interval_of_differences() -> None:
    other = numpy.random.default_rng(1).random(600)
    found = episode_difference(VALUES.tolist(), other.tolist())
    assert found.interval == pytest.approx(1.96 * stats.sem(VALUES - other))
    assert found.mean == pytest.approx((VALUES - other).mean())


def test_no_values_and_no_pairs() -> None:
    with pytest.raises(ValueError, match=r"no value"):
        mean_interval([])
    with pytest.raises(ValueError, match=r"2 values and 1 of the base"):
        episode_difference([1.0, 2.0], [1.0])
