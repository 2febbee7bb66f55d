"""What the plots of results share: colours, dashes, the words at their axes and the bytes of their PNG."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008: told apart with any common colour vision; without its yellow, which is faint on white.
PLOT_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PLOT_DASHES = ("-", "--", ":", "-.")


def label_axes(axes: "Axes", horizontal: str, vertical: str) -> None:
    """Write what the axes show, and draw a faint grid."""
    axes.set_xlabel(horizontal)
    axes.set_ylabel(vertical)
    axes.grid(visible=True, alpha=0.3)


def png_bytes(figure: "Figure") -> bytes:
    """Return a figure as PNG; equal figures give equal bytes."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})  # equal bytes for equal numbers
    return picture.getvalue()


__all__ = ["PLOT_COLOURS", "PLOT_DASHES", "label_axes", "png_bytes"]
