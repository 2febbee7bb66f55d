"""`kdcam report`."""

from pathlib import Path
from typing import Annotated

import typer

from . import render
from .options import Json

Folders = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Run folders, finished or not, or folders of comparisons."),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="Replaced where it is there.  [default: report.html in the folder; of several, in the one that holds "
        "them all]",
    ),
]


def report(runs: Folders, output: File = None, as_json: Json = False) -> None:
    """Write all that is known of runs as one HTML file.

    Scores, learning curves, robustness, the pictures of figures/ and how it was made; several runs side by side; the
    table of a comparison. Nothing is computed anew, and the file needs nothing but itself.
    """
    from kdcam.report import write_report  # slow: pydantic

    file = write_report(runs, output)
    if as_json:
        render.show_json({"file": str(file)})
    else:
        render.show_text(str(file))


__all__ = ["report"]
