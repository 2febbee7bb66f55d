"""`kdcam verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import kdcam
from kdcam.blocks.document import Table

from . import render
from .options import BatchSize, Device, Json, Networks, Pictures, Quiet, Weights, given

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcam.evaluation.verification.verification_schema import VerificationReport

PairsFile = Annotated[
    Path,
    typer.Option(
        "--pairs",
        metavar="FILE",
        help="As LFW's pairs.txt; or a CSV file (first, second, same, and maybe fold); or lists 01_test_same.txt and "
        "01_test_diff.txt, or a folder of them.",
    ),
]
Root = Annotated[
    Path, typer.Option("--root", metavar="DIR", help="With a folder of pictures for each person.")
]
Folds = Annotated[
    int | None,
    typer.Option(
        "--folds",
        metavar="N",
        help="Contiguous blocks of the pairs' order.  [default: the file's own, else 10]",
    ),
]
Flip = Annotated[
    bool | None,
    typer.Option("--flip/--no-flip", help="Add the mirrored picture's embedding.  [default: flip]"),
]
Far = Annotated[
    str | None,
    typer.Option(
        "--far",
        metavar="RATE[,RATE]",
        help="Rates at which pairs of two may be accepted.  [default: 0.001,0.01]",
    ),
]
Thresholds = Annotated[
    Literal["grid", "midpoints"] | None,
    typer.Option(
        "--thresholds",
        help="grid: squared distances 0 to 3.99 by 0.01, for rates by 0.001; midpoints: all between neighbouring "
        "distances.  [default: grid]",
    ),
]
AllowSeen = Annotated[
    bool, typer.Option("--allow-seen", help="Also where a run was trained on people of the pairs.")
]
Figures = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Draw roc.png of all runs together, too.")
]


def verify(
    runs: Networks,
    pairs: PairsFile,
    root: Root,
    folds: Folds = None,
    flip: Flip = None,
    far: Far = None,
    thresholds: Thresholds = None,
    allow_seen: AllowSeen = False,
    pictures: Pictures = True,
    figures: Figures = None,
    weights: Weights = "selected",
    batch_size: BatchSize = 256,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell whether two pictures show one person.

    A pair is taken for one person where the distance of the pictures' embeddings lies below a threshold, which is found
    on the other folds. No person of the pairs may be one that a run was trained on. Written to
    verification.json and figures/roc.png.
    """
    rates = None if far is None else _rates(far)
    settings = given(folds=folds, flip=flip, far=rates, thresholds=thresholds, allow_seen=allow_seen or None)
    with render.watching(quiet=quiet) as progress:
        found = kdcam.verify(
            runs,
            pairs,
            root,
            settings=settings,
            draw=pictures,
            figures=figures,
            weights=weights,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    if as_json:
        render.show_json([{"run": str(one.run), **one.to_json()} for one in found])
        return
    render.show_table(verification_table(found))
    for line in notes(found):
        render.show_text(line)


def _rates(far: str) -> tuple[float, ...]:
    try:
        return tuple(float(rate) for rate in far.split(","))
    except ValueError:
        raise typer.BadParameter(f"found {far!r}; must be numbers with commas, as in 0.001,0.01") from None


def verification_table(found: "Sequence[VerificationReport]") -> Table:
    """Return a table with a row a run; what stands after ± is the standard deviation over folds."""
    from kdcam.evaluation.verification.verification_schema import spread_text  # slow: pydantic

    first = found[0]
    rates = [f"TAR at FAR {one.far:g}" for one in first.scores.true_accepts]
    rows = []
    for report in found:
        scores = report.scores
        true_accepts = [spread_text(one.mean, one.std) for one in scores.true_accepts]
        accuracy = spread_text(scores.accuracy, scores.std)
        ends = (f"{scores.auc:.4f}", f"{scores.eer:.2%}", f"{scores.threshold:.3f}")
        rows.append((str(report.run), accuracy, *true_accepts, *ends))
    columns = ("run", "accuracy", *rates, "AUC", "EER", "threshold")
    return Table(columns, rows, title=_title(first))


def _title(report: "VerificationReport") -> str:
    pairs = report.pairs
    return (
        f"{pairs['file']}: {pairs['of_one_person']:,} pairs of one person and {pairs['of_two']:,} of two; "
        f"{pairs['pictures']:,} pictures of {pairs['people']:,} people; {pairs['folds']} folds; mean ± standard "
        "deviation over folds"
    )


def notes(found: "Sequence[VerificationReport]") -> list[str]:
    """Return what the numbers of a table do not say by themselves."""
    from kdcam.evaluation.verification.verification_schema import rate_notes  # slow: pydantic

    lines = rate_notes(found[0].to_json())
    for report in found:
        if report.blank:
            lines.append(f"{report.run}: {report.blank} pictures have an embedding of nothing but zeros")
    return lines


__all__ = ["notes", "verification_table", "verify"]
