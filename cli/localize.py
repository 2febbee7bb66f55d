"""`kdcam localize`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import kdcam
from kdcam.blocks.document import Table

from . import render
from .options import (
    BatchSize,
    DataSets,
    Device,
    Json,
    Pictures,
    Quiet,
    Rest,
    RunsElseNetworks,
    Weights,
    given,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcam.evaluation.localization.localization_schema import RunLocalization

Map = Annotated[
    Literal["cam", "caam", "gradcam", "hirescam"] | None,
    typer.Option("--map", help="cam becomes gradcam for a network without an exact CAM.  [default: cam]"),
]
MapOf = Annotated[
    Literal["label", "predicted"] | None,
    typer.Option(
        "--map-of", help="The label's map, or that of the class that the network says.  [default: label]"
    ),
]
Boxes = Annotated[
    Path | None,
    typer.Option(
        "--boxes",
        metavar="CSV|DIR",
        help="Columns path, x0, y0, x1, y1 in pixels of each picture, or Tiny-ImageNet's files.  [default: the data's "
        "own boxes]",
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root",
        metavar="DIR",
        help="Evaluate the pictures that the boxes name, below this folder, rather than the run's part.",
    ),
]
BoxEnds = Annotated[
    Literal["exclusive", "inclusive"] | None,
    typer.Option(
        "--box-ends",
        help="x1 and y1 of a CSV file: the first pixel outside, or the last inside.  [default: exclusive]",
    ),
]
ClassColumn = Annotated[
    str | None,
    typer.Option(
        "--class-column",
        metavar="NAME",
        help="The column of the class, a name or a number.  [default: class, else the folder's name]",
    ),
]
Part = Annotated[
    Literal["train", "validation", "test"] | None,
    typer.Option("--part", help="Which part of the run's data.  [default: test]"),
]
ThresholdFrom = Annotated[
    Literal["evaluated", "validation"] | None,
    typer.Option(
        "--threshold-from",
        help="Where the best threshold is found; published figures find it on the evaluated images.  "
        "[default: evaluated]",
    ),
]
Examples = Annotated[
    int | None,
    typer.Option("--n-examples", metavar="N", help="So many of the images.  [default: all with a box]"),
]
Resolution = Annotated[
    int | None,
    typer.Option(
        "--resolution",
        metavar="N",
        help="Maps are brought to N x N pixels.  [default: 224; drawn images: their own size]",
    ),
]
Contours = Annotated[
    Literal["regions", "wsol"] | None,
    typer.Option(
        "--contours",
        help="regions: a box a region; wsol: as published MaxBoxAccV2 figures, holes' borders, too.  "
        "[default: regions]",
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option("--figures", metavar="DIR", help="Draw localization.png of all runs together, too."),
]


def localize(
    runs: RunsElseNetworks,
    map_kind: Map = None,
    map_of: MapOf = None,
    boxes: Boxes = None,
    root: Root = None,
    box_ends: BoxEnds = None,
    class_column: ClassColumn = None,
    part: Part = None,
    threshold_from: ThresholdFrom = None,
    n_examples: Examples = None,
    resolution: Resolution = None,
    contours: Contours = None,
    pictures: Pictures = True,
    figures: Figures = None,
    sets: DataSets = None,
    rest: Rest = False,
    weights: Weights = "selected",
    batch_size: BatchSize = 256,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure how well the maps of runs find the objects.

    MaxBoxAccV2 (overlaps of 30, 50 and 70 %), MaxBoxAcc (V1), pointing game and energy inside the box, for images
    whose boxes are known. Writes localization.json and figures/localization.png into each run.
    """
    from kdcam.recipe.recipe_files import data_overrides  # slow: tomllib

    which = given(boxes=boxes, root=root, box_ends=box_ends, class_column=class_column, part=part)
    how = given(map=map_kind, map_of=map_of, resolution=resolution, contours=contours)
    found_on = given(threshold_from=threshold_from, n_examples=n_examples)
    with render.watching(quiet=quiet) as progress:
        found = kdcam.localize(
            runs,
            settings=which | how | found_on,
            draw=pictures,
            figures=figures,
            data=data_overrides(sets or ()),
            rest=rest,
            weights=weights,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    if as_json:
        render.show_json([{"run": run.run.as_posix(), **run.to_json()} for run in found])
    else:
        _show(found)


def _show(found: "Sequence[RunLocalization]") -> None:
    render.show_table(localization_table(found))
    for line in notes(found):
        render.show_text(line)


def localization_table(found: "Sequence[RunLocalization]") -> Table:
    """Return a table with a row a run, and the threshold at which each accuracy is best."""
    columns = ["run", "map", "images", "MaxBoxAccV2"]
    columns += [f"at {one.overlap:.0%}" for one in found[0].report.max_box.best_box]
    columns += ["MaxBoxAcc V1", "pointing", "energy inside"]
    rows = []
    for run in found:
        report = run.report
        best = [f"{one.accuracy:.2%} (> {one.threshold:.2f})" for one in report.max_box.best_box]
        v1 = report.max_box.largest_region
        rows.append(
            (
                str(run.run),
                report.map if report.map == "caam" else f"{report.map}, {report.map_of}",
                f"{report.images:,}",
                f"{report.max_box.v2:.2%}",
                *best,
                f"{v1.accuracy:.2%} (> {v1.threshold:.2f})",
                f"{report.pointing:.2%}",
                f"{report.energy:.2%}",
            )
        )
    return Table(tuple(columns), rows, left=2)


def notes(found: "Sequence[RunLocalization]") -> list[str]:
    """Return how the numbers were found, and what they do not cover."""
    from kdcam.evaluation.localization.localization_schema import (  # slow: pydantic
        CONTOUR_RULES,
        left_out_text,
    )

    reports = [run.report for run in found]
    thresholds = [
        f"thresholds (> share of the map's maximum): {one.threshold_rule}; maps at {one.resolution} pixels"
        for one in reports
    ]
    boxes = [f"boxes: {CONTOUR_RULES[one.contours]}" for one in reports]
    left_out = [left_out_text(asdict(one.left_out), one.flat_maps) for one in reports]
    lines = [*_once(found, thresholds), *_once(found, boxes)]
    return lines + [f"{run.run}: {text}" for run, text in zip(found, left_out, strict=True) if text]


def _once(found: "Sequence[RunLocalization]", texts: "Sequence[str]") -> list[str]:
    """Return a text that holds for all runs once, else that of each run with its name."""
    if len(set(texts)) == 1:
        return [texts[0]]
    return [f"{run.run}: {text}" for run, text in zip(found, texts, strict=True)]


__all__ = ["localization_table", "localize", "notes"]
