"""`kdcam few-shot`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import BatchSize, Device, Json, Quiet, Weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kdcam.few_shot.intervals import Interval
    from kdcam.few_shot.report import EpisodeScores, FewShotReport

    from .render import Table

Runs = Annotated[
    list[str],
    typer.Argument(
        help="Run folders; with --data or --omniglot-runs also .safetensors files beside their config.json."
    ),
]
Ways = Annotated[int, typer.Option("--ways", min=2, metavar="N", help="Classes in an episode.")]
Shots = Annotated[
    str,
    typer.Option(
        "--shots", metavar="N[,N]", help="Support images of a class; several numbers: each in turn."
    ),
]
Queries = Annotated[
    int, typer.Option("--queries", min=1, metavar="N", help="Images of a class to be told apart.")
]
EpisodeCount = Annotated[int, typer.Option("--episodes", min=1, metavar="N", help="How many.")]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Decides the episodes.")]
Classes = Annotated[
    Literal["novel", "validation"],
    typer.Option("--classes", help="Which of the classes that the runs' class split held out."),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", help="A folder of class folders instead, of classes new to the runs."
    ),
]
Heads = Annotated[
    list[str] | None,
    typer.Option(
        "--head",
        metavar="NAME",
        help="prototype, cosine-prototype, baseline or baseline++ (repeatable); all four unless given.",
    ),
]
FineTune = Annotated[
    bool,
    typer.Option("--fine-tune-last-stage", help="Also train the network's last stage in each episode: slow."),
]
OneShotRuns = Annotated[
    Path | None,
    typer.Option(
        "--omniglot-runs", metavar="PATH", help="Omniglot's all_runs.zip: the 20 official one-shot runs, too."
    ),
]


def few_shot(
    runs: Runs,
    ways: Ways = 5,
    shots: Shots = "1,5",
    queries: Queries = 15,
    episodes: EpisodeCount = 600,
    seed: Seed = 0,
    classes: Classes = "novel",
    data: Data = None,
    heads: Heads = None,
    fine_tune_last_stage: FineTune = False,
    omniglot_runs: OneShotRuns = None,
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
    import kdcam

    from . import render

    sizes = {"ways": ways, "shots": _numbers(shots), "queries": queries, "episodes": episodes, "seed": seed}
    settings: dict[str, Any] = {**sizes, "classes": classes, "fine_tune_last_stage": fine_tune_last_stage}
    if heads:
        settings["heads"] = tuple(heads)
    with render.watching(quiet=quiet) as progress:
        found = kdcam.evaluate_few_shot(
            runs,
            settings=settings,
            data=data,
            omniglot_runs=omniglot_runs,
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
        _show(found)


def _show(found: "Sequence[FewShotReport]") -> None:
    from . import render

    for index, table in enumerate(_tables(found)):
        if index > 0:
            render.show_text("")
        render.show_table(table)


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


def episode_table(found: "Sequence[FewShotReport]", *, title: str = "") -> "Table":
    """Return a row for each kind of episode and run; from the second run on with the difference to the first."""
    from .render import Table

    several = len(found) > 1
    rows = []
    for index, base in enumerate(found[0].scores):
        for number, report in enumerate(found):
            scores = report.scores[index]
            row = [base.name if number == 0 else "", str(report.run), share_text(scores.accuracy)]
            rows.append((*row, *([_difference(scores, base, number)] if several else [])))
    columns = ("episodes", "run", "accuracy", *(["difference"] if several else []))
    return Table(columns, rows, title=title, left=2)


def _difference(scores: "EpisodeScores", base: "EpisodeScores", number: int) -> str:
    return "" if number == 0 else share_text(scores.difference(base), signed=True)


def one_shot_table(found: "Sequence[FewShotReport]") -> "Table":
    """Return a row for each head and run on Omniglot's official one-shot runs."""
    from .render import Table

    rows = []
    for index, first in enumerate(found[0].one_shot):
        for number, report in enumerate(found):
            name = first.head if number == 0 else ""
            rows.append((name, str(report.run), share_text(report.one_shot[index].error)))
    first = found[0].one_shot[0]
    runs = f"{len(first.right)} official {first.drawings}-way one-shot runs"
    title = f"Omniglot's {runs}: error with 95 % interval over runs"
    return Table(("head", "run", "error"), rows, title=title, left=2)


def share_text(one: "Interval", *, signed: bool = False) -> str:
    """Return a mean share and its interval as percentages."""
    mean = f"{100 * one.mean:{'+' if signed else ''}.2f}"
    return f"{mean}%" if one.interval is None else f"{mean} ± {100 * one.interval:.2f}%"


__all__ = ["episode_table", "few_shot", "one_shot_table", "share_text"]
