"""`kdcam explain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import kdcam
from kdcam.blocks.document import Table

from . import render
from .options import Device, Json, Quiet, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcam.explanation.explanation_pictures import Explanation

Method = Annotated[
    Literal["cam", "gradcam", "hirescam"],
    typer.Option(
        "--method",
        help="cam becomes gradcam for a network without an exact CAM; of a ViT or Swin its last tokens are shown.",
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        metavar="NAME",
        help="The images' known label.  [default: the folder's name, where it is a class]",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option(
        "--class", metavar="NAME|INDEX", help="Show this class instead of the usual ones (repeatable)."
    ),
]
Scale = Annotated[
    Literal["each", "row"],
    typer.Option("--scale", help="each: every map on its own scale; row: the class maps of a run share one."),
]
MoreRuns = Annotated[
    list[str] | None,
    typer.Option("--run", metavar="RUN", help="One more run, shown below the first (repeatable)."),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Where the pictures are written; those of the same names are replaced.",
    ),
]
Alpha = Annotated[float, typer.Option("--alpha", metavar="X", help="0: the image alone; 1: the map alone.")]
Colormap = Annotated[str, typer.Option("--colormap", metavar="NAME", help="One of matplotlib's.")]


def explain(
    run: Annotated[
        str,
        typer.Argument(
            help="A run folder, a .safetensors file beside its config.json, or the name of a network with published "
            "weights."
        ),
    ],
    images: Annotated[list[Path], typer.Argument(help="Picture files, or folders of them.")],
    more_runs: MoreRuns = None,
    method: Method = "cam",
    label: Label = None,
    classes: Classes = None,
    scale: Scale = "each",
    alpha: Alpha = 0.5,
    colormap: Colormap = "inferno",
    output: Output = Path("explain"),
    weights: Weights = "selected",
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw class activation maps of pictures.

    A PNG a picture: the input, the map of all classes (CAAM), and those of the label, where it is known, of the
    prediction and of the strongest wrong class; of several labels an image, of the classes predicted present.
    """
    with render.watching(quiet=quiet) as progress:
        found = kdcam.explain(
            [run, *(more_runs or [])],
            images,
            output=output,
            method=method,
            label=label,
            classes=classes or (),
            scale=scale,
            alpha=alpha,
            colormap=colormap,
            weights=weights,
            device=device,
            progress=progress,
        )
    if as_json:
        render.show_json([one.to_json() for one in found])
    else:
        render.show_table(explain_table(found))


def explain_table(found: "Sequence[Explanation]") -> Table:
    """Return a table with a row a class map; picture and run are named once."""
    rows = []
    for one in found:
        first = True
        for run in one.runs:
            for number, shown in enumerate(run.maps):
                name = str(run.run) if number == 0 else ""
                picture = str(one.file) if first else ""
                rows.append((picture, name, shown.name, ", ".join(shown.roles), f"{shown.probability:.2%}"))
                first = False
    return Table(("picture", "run", "class", "shown as", "score"), rows, left=4)


__all__ = ["explain"]
