import numpy
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold

from kdcam.evaluation.verification.verification_metrics import (
    area_under_curve,
    best_threshold,
    equal_error_rate,
    fold_scores,
    largest_threshold,
    roc_corners,
    roc_curve,
    squared_distances,
    threshold_at_rate,
    threshold_grid,
    true_accepts,
)

# 6,000 pairs as LFW's: in each of ten folds 300 of one person, then 300 of two.
GENERATOR = numpy.random.default_rng(0)
SAME = numpy.tile(numpy.repeat([True, False], 300), 10)
EMBEDDINGS = GENERATOR.normal(size=(2, 6000, 8))
EMBEDDINGS[1, SAME] = EMBEDDINGS[0, SAME] + GENERATOR.normal(size=(3000, 8))
EMBEDDINGS /= numpy.linalg.norm(EMBEDDINGS, axis=2, keepdims=True)
DISTANCES = squared_distances(EMBEDDINGS.reshape(-1, 8), numpy.arange(6000), numpy.arange(6000) + 6000)
FOLDS = numpy.repeat(numpy.arange(10), 600)


def test_squared_distances_of_unit_vectors() -> None:
    vectors = numpy.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = squared_distances(vectors, numpy.array([0, 0, 1]), numpy.array([1, 2, 1]))
    assert found.tolist() == [2.0, 4.0, 0.0]


def test_squared_distances_of_many_pairs_go_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdcam.evaluation.verification.verification_metrics._BLOCK", 7)
    flat, first = EMBEDDINGS.reshape(-1, 8), numpy.arange(100)
    assert (squared_distances(flat, first, first + 6000) == DISTANCES[:100]).all()


def accuracy(threshold, distances, same):
    return numpy.mean((distances < threshold) == same)


def test_folds_equal_brute_force_with_scikit_learns_kfold() -> None:
    found = fold_scores(DISTANCES, SAME, FOLDS)
    thresholds = numpy.arange(0, 4, 0.01)
    for score, (train, test) in zip(found, KFold(10, shuffle=False).split(DISTANCES), strict=True):
        tried = [accuracy(threshold, DISTANCES[train], SAME[train]) for threshold in thresholds]
        threshold = thresholds[numpy.argmax(tried)]
        assert score.threshold == threshold
        assert score.accuracy == accuracy(threshold, DISTANCES[test], SAME[test])
        assert score.pairs == 600
    assert len({score.threshold for score in found}) > 1


def test_midpoints_equal_trying_every_distance() -> None:
    some = numpy.arange(0, 6000, 25)
    distances, same = DISTANCES[some], SAME[some]
    found = best_threshold(distances, same, thresholds="midpoints")
    most = max(accuracy(threshold, distances, same) for threshold in [*distances, 5.0])
    assert accuracy(found, distances, same) == most
    on_grid = best_threshold(distances, same, thresholds="grid")
    assert accuracy(found, distances, same) >= accuracy(on_grid, distances, same)


def test_a_pair_at_the_threshold_is_refused_and_the_first_best_threshold_is_taken() -> None:
    same = numpy.array([True, False])
    found = best_threshold(numpy.array([0.5, 1.0]), same, thresholds="grid")
    assert found == pytest.approx(0.51)  # of 0.51 ... 1.00, all of which tell both rightly
    assert best_threshold(numpy.array([0.5, 1.0]), same, thresholds="midpoints") == 0.75


def test_midpoints_of_neighbouring_numbers_and_of_one_distance() -> None:
    low = 1.0
    high = float(numpy.nextafter(low, 2))
    found = best_threshold(numpy.array([low, high]), numpy.array([True, False]), thresholds="midpoints")
    assert low < found <= high
    assert best_threshold(numpy.array([1.0, 1.0]), numpy.array([True, True]), thresholds="midpoints") > 1
    assert best_threshold(numpy.array([1.0, 1.0]), numpy.array([False, False]), thresholds="midpoints") == 1


@pytest.mark.parametrize("far", [1e-3, 1e-2, 0.1, 0.5])
def test_largest_threshold_equals_trying_every_one(far: float) -> None:
    for others in (DISTANCES[~SAME][:700], DISTANCES[~SAME][:700].round(1)):
        found = largest_threshold(others, far)
        assert (others < found).mean() <= far < (others < numpy.nextafter(found, 5)).mean()


@pytest.mark.parametrize("far", [1e-3, 1e-2, 0.1, 0.5])
def test_true_accepts_of_midpoints_do_not_hang_on_the_scale(far: float) -> None:
    whole = true_accepts(DISTANCES, SAME, FOLDS, far=far, thresholds="midpoints")
    small = true_accepts(DISTANCES * 2.0**-20, SAME, FOLDS, far=far, thresholds="midpoints")
    assert small == whole
    assert whole.mean == pytest.approx(true_accepts(DISTANCES, SAME, FOLDS, far=far).mean, abs=0.02)
    assert whole.mean > 0
    grid = true_accepts(DISTANCES * 2.0**-20, SAME, FOLDS, far=far)
    assert grid.found_far != pytest.approx(whole.found_far, abs=1e-3) or far > 0.1


@pytest.mark.parametrize("far", [1e-3, 1e-2, 0.1, 0.5])
def test_true_accepts_equal_brute_force(far: float) -> None:
    found = true_accepts(DISTANCES, SAME, FOLDS, far=far)
    thresholds = numpy.arange(0, 4, 0.001)
    tars, fars = [], []
    for train, test in KFold(10, shuffle=False).split(DISTANCES):
        others = DISTANCES[train][~SAME[train]]
        rates = numpy.array([(others < threshold).mean() for threshold in thresholds])
        # The last of equal rates, as numpy finds it, too.
        threshold = numpy.interp(far, rates, thresholds)
        tars.append((DISTANCES[test][SAME[test]] < threshold).mean())
        fars.append((DISTANCES[test][~SAME[test]] < threshold).mean())
    assert found.mean == pytest.approx(numpy.mean(tars), abs=1e-12)
    assert found.std == pytest.approx(numpy.std(tars), abs=1e-12)
    assert found.found_far == pytest.approx(numpy.mean(fars), abs=1e-12)
    assert found.found_far == pytest.approx(far, abs=0.02)


def test_threshold_at_a_rate_by_hand() -> None:
    others = numpy.array([1.0005, 2.0005])  # half of them below 1.001 ... 2.000
    assert threshold_at_rate(others, 0.5) == pytest.approx(2.0)
    assert threshold_at_rate(others, 0.25) == pytest.approx(1.0005)
    assert threshold_at_rate(others, 0.75) == pytest.approx(2.0005)
    assert threshold_at_rate(numpy.array([4.0, 4.0]), 0.5) == threshold_grid(0.001)[-1]


def test_pooled_rate_is_the_best_that_keeps_to_the_rate() -> None:
    distances = numpy.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    same = numpy.array([True, True, False, True, True, False])
    folds = numpy.array([0, 1, 0, 0, 1, 1])
    assert true_accepts(distances, same, folds, far=0.4).pooled == 0.5
    assert true_accepts(distances, same, folds, far=0.5).pooled == 1.0


def test_area_equals_scikit_learns_with_ties_too() -> None:
    for distances in (DISTANCES, DISTANCES.round(1)):
        found = area_under_curve(roc_curve(distances, SAME))
        assert found == pytest.approx(roc_auc_score(SAME, -distances), abs=1e-12)


def test_curve_without_straight_stretches_is_the_same_curve() -> None:
    for distances in (DISTANCES, DISTANCES.round(1)):
        whole = roc_curve(distances, SAME)
        few = roc_corners(whole)
        assert area_under_curve(few) == pytest.approx(area_under_curve(whole), abs=1e-12)
        assert equal_error_rate(few) == pytest.approx(equal_error_rate(whole), abs=1e-12)
    assert len(roc_corners(roc_curve(DISTANCES, SAME)).far) < 0.7 * len(roc_curve(DISTANCES, SAME).far)


def test_curve_in_steps_is_the_same_with_ties_too() -> None:
    for distances in (DISTANCES[:600], DISTANCES[:600].round(1), numpy.repeat(numpy.arange(300) / 100, 2)):
        whole = roc_curve(distances, SAME[:600])
        few = roc_corners(whole)
        for rate in numpy.linspace(0, 1, 301):
            # steps-post: as far up as the last point at or left of a rate
            heights = [curve.tar[curve.far <= rate][-1] for curve in (whole, few)]
            assert heights[0] == heights[1]


def test_equal_error_rate() -> None:
    apart = numpy.array([0.1, 0.2, 0.3, 0.4])
    same = numpy.array([True, True, False, False])
    assert equal_error_rate(roc_curve(apart, same)) == 0
    assert equal_error_rate(roc_curve(apart, ~same)) == 1
    assert equal_error_rate(roc_curve(numpy.ones(4), same)) == 0.5
    assert equal_error_rate(roc_curve(numpy.array([0.1, 0.3, 0.2, 0.4]), same)) == 0.5
    threshold = numpy.quantile(DISTANCES, numpy.linspace(0, 1, 3001))
    apart_by = [abs((DISTANCES[~SAME] < t).mean() - (DISTANCES[SAME] >= t).mean()) for t in threshold]
    nearest = threshold[numpy.argmin(apart_by)]
    assert equal_error_rate(roc_curve(DISTANCES, SAME)) == pytest.approx(
        (DISTANCES[~SAME] < nearest).mean(), abs=1e-3
    )
