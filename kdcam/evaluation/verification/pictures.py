"""The picture of ROC curves, several runs in one."""

import io
from collections.abc import Mapping

import numpy

from kdcam.evaluation.verification.verification_metrics import RocCurve

# Okabe and Ito 2008: told apart with any common colour vision; without its yellow, which is faint on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")


def draw_roc(curves: Mapping[str, RocCurve], *, others: int) -> bytes:
    """Return a PNG of ROC curves, with the false accept rate on a logarithmic axis.

    Args:
        curves: By name, at least one.
        others: Pairs of two people: the axis begins at one of them.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5 + 0.18 * len(curves)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for index, (name, curve) in enumerate(curves.items()):
        # Accepting nobody is no point of a logarithmic axis: its level is drawn from the left edge on.
        axes.plot(
            100 * numpy.maximum(curve.far, 0.5 / others),
            100 * curve.tar,
            label=_legend_label(name),
            color=_COLOURS[index % len(_COLOURS)],
            linestyle=_DASHES[index // len(_COLOURS) % len(_DASHES)],
            drawstyle="steps-post",
        )
    axes.set_xscale("log")
    axes.set_xlim(100 / others, 100)
    axes.set_ylim(0, 101)
    axes.set_xlabel("pairs of two people accepted (%)")
    axes.set_ylabel("pairs of one person accepted (%)")
    axes.grid(visible=True, alpha=0.3)
    # Below: beside them long names of runs would leave the axes no width.
    figure.legend(loc="outside lower left", fontsize="small", frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})  # equal bytes for equal numbers
    return picture.getvalue()


def _legend_label(name: str) -> str:
    """Return a name as it is to be shown: no formula between its dollars, and not left out for a first underline."""
    shown = name.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


__all__ = ["draw_roc"]
