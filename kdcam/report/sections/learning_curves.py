"""Learning curves: every loss term on its own, and the validation score, by epoch; one line a run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kdcam.blocks.document import Block, CaptionedPicture, LegendLine, Note, Section
from kdcam.blocks.plots import png_bytes
from kdcam.files.json_files import layout_errors
from kdcam.report.reported_run import ReportedRun
from kdcam.runs.run_files import METRICS_FILE
from kdcam.scores.main_scores import score_name
from kdcam.settings.messages import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B07900", "#56B4E9", "#000000")
"""Of lines on a light page: those of Okabe and Ito 2008, told apart with any common colour vision, with a darker
orange and without their yellow, which are faint on white."""
DARK_LINE_COLOURS = ("#4AA8E0", "#F0883E", "#2FC08C", "#E08CC0", "#E6B43C", "#A9DBFA", "#FFFFFF")
"""The same hues on a dark page; kdcam's choice."""

_DASHES = (("none", (0, ())), ("7 4", (0, (5, 3))), ("2 3", (0, (1.5, 2))))  # as SVG's and as matplotlib's
_WIDTH, _HEIGHT, _ACROSS = 3.5, 2.6, 3  # inches of a panel; panels side by side
_CSS_INCH = 96


class Theme(NamedTuple):
    """The colours of a picture."""

    text: str
    grid: str
    colours: Sequence[str]


LIGHT = Theme("#24292f", "#d0d7de", LINE_COLOURS)
DARK = Theme("#d8dee4", "#3d444d", DARK_LINE_COLOURS)


class Line(NamedTuple):
    """One run's line in a panel."""

    run_index: int  # in the report: it gives colour and dashes
    epochs: Sequence[int]
    values: Sequence[float]  # nan: a gap
    selected: int | None  # the epoch whose weights were selected


class Panel(NamedTuple):
    """One quantity by epoch."""

    title: str
    lines: Sequence[Line]


def curve_section(runs: Sequence[ReportedRun]) -> Section:
    """Return pictures of the validation scores and of every loss term by epoch; empty where no epoch is done."""
    blocks: list[Block] = []
    if panels := _panels(runs, "val"):
        caption = "Validation part after each epoch; a circle marks the selected epoch."
        blocks.append(_picture(runs, panels, caption))
    elif any(run.epochs for run in runs):
        blocks.append(Note("There was no validation part to score after each epoch."))
    if panels := _panels(runs, "train"):
        caption = "Loss terms in training, each before its weight and on its own scale: mean over the epoch."
        blocks.append(_picture(runs, panels, caption))
    return Section("Learning curves", tuple(blocks))


def _picture(runs: Sequence[ReportedRun], panels: Sequence[Panel], caption: str) -> CaptionedPicture:
    shown, names = listed(panel.title for panel in panels), listed(run.name for run in runs)
    return CaptionedPicture(
        png=draw_panels(panels, LIGHT),
        dark=draw_panels(panels, DARK),
        alt=f"Lines by epoch of {shown}; of {names}",
        caption=caption,
        width=round(_CSS_INCH * _WIDTH * min(len(panels), _ACROSS)),
        legend=[_legend_line(run.name, index) for index, run in enumerate(runs)] if len(runs) > 1 else (),
    )


def _panels(runs: Sequence[ReportedRun], part: str) -> list[Panel]:
    """Return a panel for each loss term ("train"), or for the main score and the loss of validation ("val")."""
    keys = dict.fromkeys(key for run in runs for key in _keys(run, part))
    panels = []
    for key in keys:
        lines = [line for index, run in enumerate(runs) if (line := _line(run, index, part, key)) is not None]
        percent = part == "val" and key != "nll"
        title = f"{score_name(key)} (%)" if percent else score_name(key) if part == "val" else key
        panels.append(Panel(title, lines))
    return [panel for panel in panels if panel.lines]


def _keys(run: ReportedRun, part: str) -> Iterator[str]:
    with layout_errors(run.folder / METRICS_FILE):
        for key in dict.fromkeys(key for epoch in run.epochs for key in epoch[part]):
            if part == "train" or key in (run.score, "nll"):
                yield key


def _line(run: ReportedRun, index: int, part: str, key: str) -> Line | None:
    with layout_errors(run.folder / METRICS_FILE):
        values = [_value(epoch[part], key) for epoch in run.epochs]
        if all(math.isnan(value) for value in values):
            return None
        scale = 100.0 if part == "val" and key != "nll" else 1.0
        epochs = [int(epoch["epoch"]) for epoch in run.epochs]
        chosen = [epoch["epoch"] for epoch in run.epochs if epoch.get("selected")]
        selected = chosen[-1] if chosen and part == "val" else None
        return Line(index, epochs, [scale * value for value in values], selected)


def _value(scores: Mapping[str, Any], key: str) -> float:
    value = scores.get(key)
    return math.nan if value is None else float(value)


def draw_panels(panels: Sequence[Panel], theme: Theme) -> bytes:
    """Return a PNG, transparent where nothing is drawn; equal bytes for equal numbers."""
    from matplotlib.figure import Figure  # matplotlib is slow to import

    across = min(len(panels), _ACROSS)
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(_WIDTH * across, _HEIGHT * down), dpi=160, layout="constrained")
    figure.patch.set_alpha(0)
    every = figure.subplots(down, across, squeeze=False).flatten()
    for axes, panel in zip(every, panels, strict=False):
        _draw(axes, panel, theme)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    return png_bytes(figure)


def _draw(axes: "Axes", panel: Panel, theme: Theme) -> None:
    from matplotlib.ticker import MaxNLocator  # matplotlib is slow to import

    for line in panel.lines:
        colour = theme.colours[line.run_index % len(theme.colours)]
        dash = _DASHES[line.run_index // len(theme.colours) % len(_DASHES)][1]
        # A single point makes no line.
        marker = "o" if sum(not math.isnan(value) for value in line.values) == 1 else None
        axes.plot(line.epochs, line.values, color=colour, linestyle=dash, linewidth=1.6, marker=marker)
        if line.selected is not None:
            height = line.values[line.epochs.index(line.selected)]
            axes.plot(
                [line.selected], [height], marker="o", markersize=6, markerfacecolor="none", color=colour
            )
    axes.set_title(panel.title, fontsize="medium", color=theme.text, parse_math=False)
    axes.set_xlabel("epoch", fontsize="small", color=theme.text)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    last = max(max(line.epochs) for line in panel.lines)
    axes.set_xlim(1 - (margin := max(0.03 * (last - 1), 0.1)), last + margin)  # also where a term starts late
    axes.tick_params(colors=theme.text, labelsize="small", length=0)
    axes.grid(visible=True, color=theme.grid, linewidth=0.6)
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.grid)


def _legend_line(name: str, index: int) -> LegendLine:
    colours = len(LINE_COLOURS)
    return LegendLine(name, index % colours, _DASHES[index // colours % len(_DASHES)][0])


__all__ = [
    "DARK",
    "DARK_LINE_COLOURS",
    "LIGHT",
    "LINE_COLOURS",
    "Line",
    "Panel",
    "Theme",
    "curve_section",
    "draw_panels",
]
