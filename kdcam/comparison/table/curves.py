"""The picture of a comparison: validation scores by epoch, and how soon each level is reached."""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kdcam.comparison.table.comparison import Comparison
from kdcam.comparison.table.comparison_result import ComparedRow
from kdcam.scores.intervals import epochs_to_reach, median_epochs
from kdcam.scores.main_scores import SCORE_WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ScoreCurve = Sequence[float | None]  # validation score by epoch, in [0, 1]

# Okabe and Ito 2008: told apart with any common colour vision; without its yellow, which is faint on white.
PLOT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PLOT_DASHES = ("-", "--", ":", "-.")
_LEVELS = 200


def draw_score_curves(comparison: Comparison) -> bytes | None:
    """Return a PNG; None where no run has a validation part.

    Left: the validation score by epoch, mean and range (lowest to highest) over the seeds. Right: the epochs to each
    level of it, median over the seeds, where never counts as infinite.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = [row for row in comparison.rows if row.curves]
    if not rows:
        return None
    height = max(4.5, 0.4 + 0.18 * len(rows))  # inches; the legend has a line a row
    figure = Figure(figsize=(12, height), dpi=120, layout="constrained")
    scores, reached = figure.subplots(1, 2)
    levels = score_levels([curve for row in rows for curve in row.curves.values()])
    for index, row in enumerate(rows):
        style = {
            "color": PLOT_COLOURS[index % len(PLOT_COLOURS)],
            "linestyle": PLOT_DASHES[index // len(PLOT_COLOURS) % len(PLOT_DASHES)],
        }
        _draw_scores(scores, row, style)
        counts = epochs_by_level(list(row.curves.values()), levels)
        reached.plot([100 * level for level in levels], _gaps(counts), **style)
    name = f"validation {SCORE_WORDS[comparison.score]} (%)"
    label_axes(scores, "epoch", name)
    scores.xaxis.set_major_locator(MaxNLocator(integer=True))
    label_axes(reached, name, "epochs to reach it")
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})  # equal bytes for equal curves
    return picture.getvalue()


def score_levels(curves: Sequence[ScoreCurve]) -> list[float]:
    """Return evenly spaced scores from the lowest to the highest of some curves, both included."""
    known = [score for curve in curves for score in curve if score is not None]
    low, high = min(known), max(known)
    return [low + (high - low) * step / (_LEVELS - 1) for step in range(_LEVELS - 1)] + [high]


def epochs_by_level(curves: Sequence[ScoreCurve], levels: Sequence[float]) -> list[float | None]:
    """Return the median epochs of curves to each level; None where half of them or more never get there."""
    return [median_epochs([epochs_to_reach(curve, level) for curve in curves]) for level in levels]


def mean_and_range(curves: Sequence[ScoreCurve]) -> list[tuple[float, float, float] | None]:
    """Return mean, lowest and highest score of each epoch that all curves have; None where one has no score."""
    found: list[tuple[float, float, float] | None] = []
    for scores in zip(*curves, strict=False):
        known = [score for score in scores if score is not None]
        whole = len(known) == len(scores)
        found.append((math.fsum(known) / len(known), min(known), max(known)) if whole else None)
    return found


def _draw_scores(axes: "Axes", row: ComparedRow, style: dict[str, Any]) -> None:
    points = mean_and_range(list(row.curves.values()))
    mean, low, high = (
        _gaps([None if one is None else 100 * one[part] for one in points]) for part in range(3)
    )
    epochs = range(1, len(points) + 1)
    # A single epoch makes no line.
    marker = "o" if len(points) == 1 else None
    axes.plot(epochs, mean, label=row.name, marker=marker, **style)
    axes.fill_between(epochs, low, high, color=style["color"], alpha=0.15, linewidth=0)


def label_axes(axes: "Axes", horizontal: str, vertical: str) -> None:
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.grid(visible=True, alpha=0.3)


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


__all__ = ["draw_score_curves", "epochs_by_level", "mean_and_range", "score_levels"]
