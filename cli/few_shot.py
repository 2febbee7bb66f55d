"""`kdcam few-shot`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import kdcam
from kdcam.blocks.document import Table

from . import render
from .options import BatchSize, DataSets, Device, Json, Quiet, Rest, RunsElseNetworks, Weights, given

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcam.evaluation.few_shot.few_shot_schema import EpisodeScores, FewShotReport

Ways = Annotated[
    int | None, typer.Option("--ways", min=2, metavar="N", help="Classes in an episode.  [default: 5]")
]
Shots = Annotated[
    str | None,
    typer.Option(
        "--shots",
        metavar="N[,N]",
        help="Support images of a class; several numbers: each in turn.  [default: 1,5]",
    ),
]
Queries = Annotated[
    int | None,
    typer.Option("--queries", min=1, metavar="N", help="Images of a class to be told apart.  [default: 15]"),
]
EpisodeCount = Annotated[
    int | None, typer.Option("--episodes", min=1, metavar="N", help="How many.  [default: 600]")
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, metavar="N", help="Decides the episodes.  [default: 0]")
]
Classes = Annotated[
    Literal["novel", "validation"] | None,
    typer.Option(
        "--classes", help="Which of the classes that the runs' class split held out.  [default: novel]"
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        "--root", metavar="DIR", help="A folder of class folders instead, of classes new to the runs."
    ),
]
Heads = Annotated[
    list[str] | None,
    typer.Option(
        "--head",
        metavar="NAME",
        help="prototype, cosine-prototype, logistic, baseline or baseline++ (repeatable); all five unless given.",
    ),
]
FineTune = Annotated[
    bool,
    typer.Option("--fine-tune-last-stage", help="Also train the network's last stage in each episode: slow."),
]
OneShotRuns = Annotated[
    Path | None,
    typer.Option(
        "--omniglot-runs",
        metavar="PATH",
        help="Omniglot's all_runs.zip: the 20 official one-shot runs, too; any network may be asked them.",
    ),
]


def few_shot(
    runs: RunsElseNetworks,
    ways: Ways = None,
    shots: Shots = None,
    queries: Queries = None,
    episodes: EpisodeCount = None,
    seed: Seed = None,
    classes: Classes = None,
    root: Root = None,
    heads: Heads = None,
    fine_tune_last_stage: FineTune = False,
    omniglot_runs: OneShotRuns = None,
    sets: DataSets = None,
    rest: Rest = False,
    weights: Weights = "selected",
    batch_size: BatchSize = 256,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Tell new classes apart from a few images each.

    Episodes are drawn from classes that the runs were not trained on, the same episodes for all runs: mean accuracy
    with its 95 % interval over episodes, and the difference to the first run, paired by episode. Written to
    few-shot.json, the episodes to few-shot-episodes.safetensors.
    """
    from kdcam.recipe.recipe_files import data_overrides  # slow: tomllib

    sizes = {"ways": ways, "shots": None if shots is None else _numbers(shots), "queries": queries}
    drawn = {"episodes": episodes, "seed": seed, "classes": classes, "heads": tuple(heads or ()) or None}
    settings = given(**sizes, **drawn, fine_tune_last_stage=fine_tune_last_stage or None)
    with render.watching(quiet=quiet) as progress:
        found = kdcam.evaluate_few_shot(
            runs,
            settings=settings,
            root=root,
            omniglot_runs=omniglot_runs,
            data=data_overrides(sets or ()),
            rest=rest,
            weights=weights,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    if as_json:
        documents = [{"run": str(one.run), **one.to_json()} for one in found]
        for document, one in zip(documents[1:], found[1:], strict=True):
            document["difference"] = {"to": str(found[0].run), "headline": one.differences(found[0])}
        render.show_json(documents)
    else:
        render.show_tables(_tables(found))


def _numbers(shots: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in shots.split(","))
    except ValueError:
        raise typer.BadParameter(f"found {shots!r}; must be whole numbers with commas, as in 1,5") from None


def _tables(found: "Sequence[FewShotReport]") -> "Iterator[Table]":
    novel = found[0].novel
    if novel is not None:
        yield episode_table(found, title=_title(found[0]))
    if found[0].one_shot:
        yield one_shot_table(found)


def _title(first: "FewShotReport") -> str:
    settings, novel = first.settings, first.novel
    assert novel is not None
    return (
        f"{novel.source}: {novel.images:,} images of {len(novel.classes)} classes; {settings.episodes:,} episodes, "
        f"{settings.queries} queries a class, seed {settings.seed}; accuracy with 95 % interval over episodes"
    )


def episode_table(found: "Sequence[FewShotReport]", *, title: str = "") -> Table:
    """Return a row for each kind of episode and run; from the second run on with the difference to the first."""
    from kdcam.evaluation.few_shot.few_shot_schema import interval_text  # slow: pydantic

    several = len(found) > 1
    rows = []
    for index, base in enumerate(found[0].scores):
        for number, report in enumerate(found):
            scores = report.scores[index]
            row = [base.name if number == 0 else "", str(report.run), interval_text(scores.accuracy)]
            rows.append((*row, *([_difference(scores, base, number)] if several else [])))
    columns = ("episodes", "run", "accuracy", *(["difference"] if several else []))
    return Table(columns, rows, title=title, left=2)


def _difference(scores: "EpisodeScores", base: "EpisodeScores", number: int) -> str:
    from kdcam.evaluation.few_shot.few_shot_schema import interval_text  # slow: pydantic

    return "" if number == 0 else interval_text(scores.difference(base), signed=True)


def one_shot_table(found: "Sequence[FewShotReport]") -> Table:
    """Return a row for each head and run on Omniglot's official one-shot runs."""
    from kdcam.evaluation.few_shot.few_shot_schema import interval_text  # slow: pydantic

    rows = []
    for index, first in enumerate(found[0].one_shot):
        for number, report in enumerate(found):
            name = first.head if number == 0 else ""
            rows.append((name, str(report.run), interval_text(report.one_shot[index].error)))
    first = found[0].one_shot[0]
    runs = f"{len(first.right)} official {first.drawings}-way one-shot runs"
    title = f"Omniglot's {runs}: error with 95 % interval over runs"
    return Table(("head", "run", "error"), rows, title=title, left=2)


__all__ = ["episode_table", "few_shot", "one_shot_table"]
