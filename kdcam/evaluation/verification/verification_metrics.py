"""How well distances tell pairs of one person from pairs of two: accuracy over folds, rates, the ROC curve."""

from typing import Literal, NamedTuple

import numpy
from numpy.typing import NDArray

from kdcam.data.verification_pairs import Flags, Numbers

Thresholds = Literal["grid", "midpoints"]
Values = NDArray[numpy.float64]

# Of the thresholds, as insightface takes them.
ACCURACY_STEP = 0.01
_RATE_STEP = 0.001
_LARGEST = 4  # squared distance of two unit vectors
_BLOCK = 10_000  # pairs whose embeddings are held at once: kdcam's choice


class FoldScore(NamedTuple):
    """The pairs of one fold, classified at the threshold that is best on the others."""

    pairs: int
    threshold: float  # squared distance; a pair below it is taken for one person
    accuracy: float  # in [0, 1]


class TrueAccepts(NamedTuple):
    """The share of pairs of one person that are accepted where few pairs of two are."""

    far: float  # the false accept rate asked for
    mean: float  # of the true accept rate over folds, the threshold found on the other folds
    std: float  # over folds, divided by their number
    found_far: float  # mean over folds of the rate on the fold itself
    pooled: float  # over all pairs: the largest share at a false accept rate of at most ``far``


class RocCurve(NamedTuple):
    """The rates at each distinct distance taken as the largest one accepted, from (0, 0) to (1, 1)."""

    far: Values  # (R,) share of pairs of two people that are accepted
    tar: Values  # (R,) share of pairs of one person that are accepted


def squared_distances(embeddings: Values, first: Numbers, second: Numbers) -> Values:
    """Return the squared euclidean distances (P,) of embeddings (D, E) at the positions ``first`` and ``second``."""
    squared = numpy.empty(len(first))
    for start in range(0, len(first), _BLOCK):
        some = slice(start, start + _BLOCK)
        squared[some] = numpy.square(embeddings[first[some]] - embeddings[second[some]]).sum(1)
    return squared


# Whose folds and thresholds these are: docs/decisions/020.
def fold_scores(
    distances: Values, same: Flags, folds: Numbers, *, thresholds: Thresholds = "grid"
) -> tuple[FoldScore, ...]:
    """Return the accuracy on each fold at the threshold that is best on all other folds.

    Source: deepinsight/insightface, recognition/arcface_torch/eval/verification.py (calculate_roc), with
    ``thresholds="grid"``: the first best threshold, a pair accepted where its distance is strictly smaller.

    Args:
        distances: (P,) squared distances of unit embeddings.
        same: (P,) whether a pair is of one person.
        folds: (P,) from 0 on, 2 or more of them.
        thresholds: see `best_threshold`.
    """
    found = []
    for fold in range(int(folds.max()) + 1):
        own = folds == fold
        threshold = best_threshold(distances[~own], same[~own], thresholds=thresholds)
        right = int(((distances[own] < threshold) == same[own]).sum())
        found.append(FoldScore(int(own.sum()), threshold, right / int(own.sum())))
    return tuple(found)


def best_threshold(distances: Values, same: Flags, *, thresholds: Thresholds) -> float:
    """Return the smallest threshold with the most pairs classified correctly.

    Args:
        distances: (P,) squared, in [0, 4].
        same: (P,) whether a pair is of one person.
        thresholds: "grid": 0, 0.01 ... 3.99. "midpoints": the middles between neighbouring distances, and both ends,
            which no grid misses.
    """
    candidates = threshold_grid(ACCURACY_STEP) if thresholds == "grid" else _midpoints(distances)
    return float(candidates[_right(distances, same, candidates).argmax()])


def threshold_grid(step: float) -> Values:
    """Return the thresholds 0, step ... below 4, as insightface makes them."""
    return numpy.arange(0, _LARGEST, step)


def _midpoints(distances: Values) -> Values:
    ordered = numpy.unique(distances)
    middles = (ordered[:-1] + ordered[1:]) / 2
    # Between two neighbouring numbers there is no middle; below the upper one lies the lower one alone.
    middles = numpy.where(middles <= ordered[:-1], ordered[1:], middles)
    return numpy.concatenate([ordered[:1], middles, numpy.nextafter(ordered[-1:], numpy.inf)])


def true_accepts(
    distances: Values, same: Flags, folds: Numbers, *, far: float, thresholds: Thresholds = "grid"
) -> TrueAccepts:
    """Return the share of accepted pairs of one person at a false accept rate.

    The threshold of a fold is found on the pairs of two people in the other folds. "grid": as insightface does
    (calculate_val), with linear interpolation; there repeated rates stop the program, see `threshold_at_rate` for them
    here. "midpoints": the `largest_threshold` that keeps to the rate, whatever the scale of the distances. Each fold
    needs pairs of both kinds. Arguments as those of `fold_scores`; ``far`` lies in (0, 1).
    """
    find = threshold_at_rate if thresholds == "grid" else largest_threshold
    accepted, wrong = [], []
    for fold in range(int(folds.max()) + 1):
        own = folds == fold
        below = distances < find(distances[~own & ~same], far)
        accepted.append(below[own & same].mean())
        wrong.append(below[own & ~same].mean())
    curve = roc_curve(distances, same)
    pooled = curve.tar[curve.far <= far].max()
    return TrueAccepts(
        far, float(numpy.mean(accepted)), float(numpy.std(accepted)), float(numpy.mean(wrong)), float(pooled)
    )


def threshold_at_rate(distances: Values, far: float) -> float:
    """Return the threshold below which the share ``far`` of distances (P,) lies, by interpolation on a grid of 0.001.

    Between the last threshold of the grid whose rate is at most ``far`` and the next one, linearly: where the rate
    stays at ``far`` over several thresholds, at the last of them. The grid's last threshold where the rates nowhere
    come to more than ``far``; insightface takes 0 where they do not come up to it, so that all pairs are refused.
    """
    thresholds = threshold_grid(_RATE_STEP)
    rates = _below(distances, thresholds) / len(distances)
    last = int(numpy.searchsorted(rates, far, side="right")) - 1
    if last + 1 == len(thresholds):
        return float(thresholds[last])
    share = (far - rates[last]) / (rates[last + 1] - rates[last])
    return float(thresholds[last] + share * (thresholds[last + 1] - thresholds[last]))


def largest_threshold(distances: Values, far: float) -> float:
    """Return the largest threshold below which a share of at most ``far`` of distances (P,) lies; 0 < ``far`` < 1."""
    ordered = numpy.sort(distances)
    shares = numpy.arange(len(ordered)) / len(ordered)  # that lie below each distance, at most
    return float(ordered[int(numpy.searchsorted(shares, far, side="right")) - 1])


def roc_curve(distances: Values, same: Flags) -> RocCurve:
    """Return the ROC curve over all pairs, whatever their folds.

    Pairs of one distance are accepted together, so that a point may differ from the one before in both rates.
    """
    ordered = numpy.unique(distances)
    rates = [
        numpy.searchsorted(numpy.sort(distances[kind]), ordered, side="right") / int(kind.sum())
        for kind in (~same, same)
    ]
    far, tar = (numpy.concatenate([[0.0], rate]) for rate in rates)
    return RocCurve(far, tar)


def roc_corners(curve: RocCurve) -> RocCurve:
    """Return a ROC curve without the points between others of the same rate, of either kind.

    It draws the same, in lines or in steps. Points on a slope, where distances are tied, all stay: in steps they count.
    """
    level, upright = (numpy.diff(rates) == 0 for rates in (curve.tar, curve.far))
    straight = (level[:-1] & level[1:]) | (upright[:-1] & upright[1:])
    far, tar = curve
    kept = numpy.concatenate([[True], ~straight, [True]])
    return RocCurve(far[kept], tar[kept])


def area_under_curve(curve: RocCurve) -> float:
    """Return the area under a ROC curve: how often a pair of one person is nearer than one of two; ties count half."""
    return float(((curve.tar[1:] + curve.tar[:-1]) / 2 * numpy.diff(curve.far)).sum())


def equal_error_rate(curve: RocCurve) -> float:
    """Return the rate at which as large a share of pairs of two is accepted as of one person refused.

    By linear interpolation between the curve's points. 0: all pairs are told apart; 0.5: as by chance, or where all
    distances are equal; 1: pairs of two are nearer, all of them.
    """
    excess = curve.far - (1 - curve.tar)  # rises from -1 to 1
    after = int(numpy.argmax(excess >= 0))
    low, high = excess[after - 1], excess[after]
    share = -low / (high - low)
    return float(curve.far[after - 1] + share * (curve.far[after] - curve.far[after - 1]))


def _below(distances: Values, thresholds: Values) -> Numbers:
    """Return how many distances lie below each threshold; those equal to it do not."""
    return numpy.searchsorted(numpy.sort(distances), thresholds, side="left")


def _right(distances: Values, same: Flags, thresholds: Values) -> Numbers:
    """Return how many pairs are classified correctly at each threshold."""
    others = distances[~same]
    right: Numbers = _below(distances[same], thresholds) + len(others) - _below(others, thresholds)
    return right


__all__ = [
    "ACCURACY_STEP",
    "FoldScore",
    "RocCurve",
    "Thresholds",
    "TrueAccepts",
    "area_under_curve",
    "best_threshold",
    "equal_error_rate",
    "fold_scores",
    "largest_threshold",
    "roc_corners",
    "roc_curve",
    "squared_distances",
    "threshold_at_rate",
    "threshold_grid",
    "true_accepts",
]
