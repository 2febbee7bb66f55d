import numpy
import pytest
from scipy import stats

from kdcam.scores.intervals import episode_difference, mean_interval

VALUES = numpy.random.default_rng(0).integers(20, 76, 600) / 75


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
