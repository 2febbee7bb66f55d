"""`kdcam make-pairs`."""

from pathlib import Path
from typing import Annotated

import typer

import kdcam

from . import render
from .options import Json

Folder = Annotated[Path, typer.Argument(help="With a folder of pictures for each person.")]
File = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Replaced where it is there.")]
People = Annotated[
    str, typer.Option("--people", metavar="NAME[,NAME]", help="Only these.  [default: all in the folder]")
]
NotIn = Annotated[
    list[str] | None,
    typer.Option("--not-in", metavar="RUN", help="Leave out people that a run was trained on (repeatable)."),
]
Folds = Annotated[int, typer.Option("--folds", min=2, metavar="N", help="How many.")]
PerFold = Annotated[
    int | None,
    typer.Option(
        "--per-fold",
        min=1,
        metavar="N",
        help="Pairs of one person in a fold, and as many of two.  [default: as many as can be, at most 300]",
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Decides the pairs.")]


def make_pairs(
    folder: Folder,
    output: File = Path("pairs.txt"),
    people: People = "",
    not_in: NotIn = None,
    folds: Folds = 10,
    per_fold: PerFold = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw pairs of face pictures for `kdcam verify`.

    Written in the format of LFW's pairs.txt: in each fold as many pairs of one person as of two.
    """
    found = kdcam.make_pairs(
        folder,
        output,
        people=tuple(filter(None, people.split(","))),
        not_in=not_in or (),
        folds=folds,
        per_fold=per_fold,
        seed=seed,
    )
    for note in found.notes:
        render.show_notice(note)
    if as_json:
        render.show_json(found.to_json())
    else:
        render.show_text(
            f"{found.file}: {found.folds} folds of 2 x {found.per_fold} pairs, of {found.pictures:,} pictures of "
            f"{len(found.people):,} people"
        )


__all__ = ["make_pairs"]
