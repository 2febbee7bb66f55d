"""`kdcam verify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import BatchSize, Device, Json, Quiet, RunPaths, Weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kdcam.verification.report import VerificationReport

    from .render import Table

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
    Path, typer.Option("--root", metavar="FOLDER", help="With a folder of pictures for each person.")
]
Folds = Annotated[
    int | None,
    typer.Option(
        "--folds",
        metavar="N",
        help="Contiguous blocks of the pairs' order.  [default: the file's own, else 10]",
    ),
]
Flip = Annotated[bool, typer.Option("--flip/--no-flip", help="Add the mirrored picture's embedding.")]
Far = Annotated[
    str, typer.Option("--far", metavar="RATE[,RATE]", help="Rates at which pairs of two may be accepted.")
]
Thresholds = Annotated[
    Literal["grid", "midpoints"],
    typer.Option(
        "--thresholds",
        help="grid: squared distances 0 to 3.99 by 0.01, for rates by 0.001; midpoints: all between neighbouring "
        "distances.",
    ),
]
AllowSeen = Annotated[
    bool, typer.Option("--allow-seen", help="Also where a run was trained on people of the pairs.")
]
Figures = Annotated[
    Path | None, typer.Option("--figures", metavar="FOLDER", help="Draw roc.png there, all runs in one.")
]


def verify(
    runs: RunPaths,
    pairs: PairsFile,
    root: Root,
    folds: Folds = None,
    flip: Flip = True,
    far: Far = "0.001,0.01",
    thresholds: Thresholds = "grid",
    allow_seen: AllowSeen = False,
    figures: Figures = None,
    weights: Weights = "selected",
    batch_size: BatchSize = 256,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell whether two pictures show one person.

    A pair is taken for one person where the distance of the pictures' embeddings lies below a threshold, which is found
    on the other folds. No person of the pairs may be one that a run was trained on. Written to verification.json.
    """
    import kdcam

    from . import render

    settings: dict[str, Any] = {
        "folds": folds,
        "flip": flip,
        "far": _rates(far),
        "thresholds": thresholds,
        "allow_seen": allow_seen,
    }
    with render.watching(quiet=quiet) as progress:
        found = kdcam.verify(
            runs,
            pairs,
            root,
            settings=settings,
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


def verification_table(found: "Sequence[VerificationReport]") -> "Table":
    """Return a table with a row a run; what stands after ± is the standard deviation over folds."""
    from .render import Table

    first = found[0]
    rates = [f"TAR at FAR {one.far:g}" for one in first.scores.true_accepts]
    rows = []
    for report in found:
        scores = report.scores
        told = [_spread(one.mean, one.std) for one in scores.true_accepts]
        accuracy = _spread(scores.accuracy, scores.std)
        ends = (f"{scores.auc:.4f}", f"{scores.eer:.2%}", f"{scores.threshold:.3f}")
        rows.append((str(report.run), accuracy, *told, *ends))
    columns = ("run", "accuracy", *rates, "AUC", "EER", "threshold")
    return Table(columns, rows, title=_title(first))


def _title(report: "VerificationReport") -> str:
    pairs = report.pairs
    return (
        f"{pairs['file']}: {pairs['of_one_person']:,} pairs of one person and {pairs['of_two']:,} of two; "
        f"{pairs['pictures']:,} pictures of {pairs['people']:,} people; {pairs['folds']} folds; mean ± standard "
        "deviation over folds"
    )


def _spread(mean: float, std: float) -> str:
    return f"{100 * mean:.2f} ± {100 * std:.2f}%"


def notes(found: "Sequence[VerificationReport]") -> list[str]:
    """Return what the numbers of a table do not say by themselves."""
    first = found[0]
    # A threshold is found on all folds but one.
    others = first.pairs["of_two"] * (first.pairs["folds"] - 1) / first.pairs["folds"]
    lines = []
    for one in first.scores.true_accepts:
        if one.far * others < 1:
            by = (
                "is interpolated between none and one"
                if first.settings.thresholds == "grid"
                else "lets none pass"
            )
            lines.append(
                f"FAR {one.far:g} is less than one of the {others:.0f} pairs of two that a threshold is found on: it "
                f"{by}"
            )
    for report in found:
        if report.blank:
            lines.append(f"{report.run}: {report.blank} pictures have an embedding of nothing but zeros")
    return lines


__all__ = ["notes", "verification_table", "verify"]
