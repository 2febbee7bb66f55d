"""The folder of a comparison: its tables and its picture of curves, which may be committed, and its runs."""

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdcam.blocks.plots import PLOT_COLOURS, PLOT_DASHES, label_axes, png_bytes
from kdcam.comparison.table.comparison_result import ComparedRow, epochs_to_reach, median_epochs
from kdcam.comparison.table.text_formats import Comparison
from kdcam.errors import CheckpointError, FolderInUseError
from kdcam.files.atomic_writes import make_folder, remove_leftovers, write_atomically
from kdcam.files.folder_lock import FolderLock
from kdcam.files.json_files import read_json, write_json
from kdcam.files.paths import exists, is_file, is_folder
from kdcam.runs.run_files import find_state
from kdcam.scores.main_scores import SCORE_WORDS
from kdcam.settings.messages import reason_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RUNS_FOLDER = "runs"
COMPARISON_FILE = "comparison.json"
CSV_FILE = "comparison.csv"
MARKDOWN_FILE = "comparison.md"
CURVES_FILE = "curves.png"
PREVIOUS_TABLE = "comparison-previous"
"""The name, before .json, .csv and .md, of the last table that had rows or runs which its successor lacks."""

_LOCK_POLL_SECONDS = 0.05
_LEVELS = 200  # of the score, at which the right plot counts epochs
ScoreCurve = Sequence[float | None]  # validation score by epoch, in [0, 1]


def run_folder(output: Path, name: str) -> Path:
    """Return the folder of the run of this name."""
    return output / RUNS_FOLDER / name


def check_output(output: Path) -> None:
    """Raise ``CheckpointError`` where a folder is that of a run, or no folder can be made or written to there."""
    if find_state(output) != "new":
        raise CheckpointError(
            f"--output {output}: is the folder of a run, which a comparison would be written into; name another one, "
            f"as in --output {output}-compared"
        )
    there = next((one for one in (output, *output.absolute().parents) if exists(one)), output)
    if not is_folder(there) or not os.access(there, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"--output {output}: {there} is no folder that may be written to; name another one"
        )


def prepare_output(output: Path) -> None:
    """Make the folder, with a .gitignore that keeps the run folders in it out of a repository.

    Raises ``CheckpointError`` where it cannot be made.
    """
    runs = output / RUNS_FOLDER
    make_folder(runs)
    if not exists(runs / ".gitignore"):
        write_atomically(runs / ".gitignore", b"*\n")


def write_comparison(output: Path, comparison: Comparison, *, keeps_previous: bool = True) -> tuple[str, ...]:
    """Write the tables and the picture of a comparison, each whole or not at all.

    Returns the rows and finished seeds of the table before that this one lacks; where there are any, it is kept under
    `PREVIOUS_TABLE`. Without ``keeps_previous`` the table before is not looked at.

    Raises ``CheckpointError`` where one cannot be written.
    """
    picture = draw_score_curves(comparison)
    lock = _wait_for_lock(output / RUNS_FOLDER)
    try:
        remove_leftovers(output)
        lost = _lost(output / COMPARISON_FILE, comparison) if keeps_previous else ()
        if lost:
            _keep_previous(output)
        write_json(output / COMPARISON_FILE, comparison.to_json())
        write_atomically(output / CSV_FILE, comparison.to_csv().encode(errors="backslashreplace"))
        write_atomically(output / MARKDOWN_FILE, comparison.to_markdown().encode(errors="backslashreplace"))
        if picture is not None:
            write_atomically(output / CURVES_FILE, picture)
        else:
            _remove(output / CURVES_FILE)
    finally:
        lock.release()
    return lost


def _lost(file: Path, comparison: Comparison) -> tuple[str, ...]:
    """Return what the table that lies there has and the new one lacks; its name, where it is no such table."""
    if not exists(file):
        return ()
    here = {row.folder: set(row.seeds) for row in comparison.rows}
    try:
        return tuple(_lost_rows(read_json(file)["rows"], here))
    except (CheckpointError, KeyError, TypeError):
        return (f"all of {file.name}",)


def _lost_rows(before: Iterable[Mapping[str, Any]], here: Mapping[str, set[int]]) -> Iterator[str]:
    for row in before:
        name, folder, seeds = str(row["name"]), str(row["folder"]), list(row["seeds"])
        if folder not in here:
            yield name
        elif gone := [seed for seed in seeds if seed not in here[folder]]:
            yield f"{name} with seed{'' if len(gone) == 1 else 's'} {' '.join(map(str, gone))}"


def _keep_previous(output: Path) -> None:
    for name in (CSV_FILE, MARKDOWN_FILE, COMPARISON_FILE):
        if is_file(output / name):
            write_atomically(output / f"{PREVIOUS_TABLE}{Path(name).suffix}", (output / name).read_bytes())


def _wait_for_lock(folder: Path) -> FolderLock:
    """Return the lock once another comparison in the same folder, which needs it for an instant, has released it."""
    while True:
        with suppress(FolderInUseError):
            return FolderLock(folder)
        time.sleep(_LOCK_POLL_SECONDS)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: is of an earlier comparison and cannot be removed ({reason_text(error)})"
        ) from error


def draw_score_curves(comparison: Comparison) -> bytes | None:
    """Return a PNG; None where no run has a validation part.

    Left: the validation score by epoch, mean and range (lowest to highest) over the seeds. Right: the epochs to each
    level of it, median over the seeds, where never counts as infinite.
    """
    from matplotlib.figure import Figure  # matplotlib is slow to import
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
    return png_bytes(figure)


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


def _gaps(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


__all__ = [
    "COMPARISON_FILE",
    "CSV_FILE",
    "CURVES_FILE",
    "MARKDOWN_FILE",
    "PREVIOUS_TABLE",
    "RUNS_FOLDER",
    "check_output",
    "draw_score_curves",
    "epochs_by_level",
    "mean_and_range",
    "prepare_output",
    "run_folder",
    "score_levels",
    "write_comparison",
]
