"""`kdcam compare`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device, Json, Quiet, Sets

if TYPE_CHECKING:
    from kdcam.comparison.plan import ComparisonPlan
    from kdcam.comparison.results import ComparedRow
    from kdcam.comparison.table import Comparison

    from .render import Table

Recipes = Annotated[
    list[str] | None,
    typer.Argument(help="TOML files, or shipped recipes (`kdcam recipes list`): a row of the table each."),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base",
        metavar="RECIPE",
        help="The recipe of the first row, which differences are to.  [default: the first]",
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="NAME,...",
        help="Distillation methods (kd, dkd, caam_cam ...), or alone (no teacher): a row each, on the base.",
    ),
]
Grid = Annotated[
    list[str] | None,
    typer.Option(
        "--grid",
        metavar="KEY=V1,V2",
        help="Rows with each of the values: --grid data.noise.rate=0,0.2 (repeatable: all combinations).",
    ),
]
Teachers = Annotated[
    list[str] | None,
    typer.Option(
        "--teacher",
        metavar="PATH",
        help="A run folder, file or network name, for all rows with a teacher. Repeat for several teachers.",
    ),
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="0..4|0,2", help="The seeds of each row.  [default: 0..2]")
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", "-j", min=1, metavar="N", help="How many runs at once, each in its own process."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="DIR", help="The comparison's folder; runs/compare-<recipe> unless given."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check the recipes, list the runs and what is missing; touch nothing."),
]

_SELECTIONS = {
    "best": "the epoch best on the validation part; the test part was read once, after the selection",
    "last": "the last epoch; nothing was selected on",
}


def compare(
    recipes: Recipes = None,
    base: Base = None,
    methods: Methods = None,
    grid: Grid = None,
    sets: Sets = None,
    teachers: Teachers = None,
    seeds: Seeds = None,
    jobs: Jobs = 1,
    output: Folder = None,
    device: Device = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run recipes, methods or settings over seeds, and show one table.

    The same command again goes on with what was cut off, tries again what failed and shows the table; with more seeds
    it runs those. The table is also written as Markdown, CSV and JSON, with a picture of the curves.
    """
    from kdcam.comparison.plan import parse_seeds, plan_comparison
    from kdcam.comparison.running import SEEDS, default_output, run_comparison

    from . import render

    plan = plan_comparison(
        recipes or (),
        base=base,
        methods=[name.strip() for name in (methods or "").split(",") if name.strip()],
        grid=grid or (),
        sets=sets or (),
        teachers=teachers or (),
        seeds=SEEDS if seeds is None else parse_seeds(seeds),
    )
    place = output or default_output(plan.rows[0].source)
    if dry_run:
        _show_plan(plan, place, as_json=as_json, quiet=quiet)
        return
    with render.watching(quiet=quiet) as progress:
        comparison = run_comparison(
            plan, output=place, jobs=jobs, device=device, progress=progress, command=("kdcam", *sys.argv[1:])
        )
    if as_json:
        render.show_json(comparison.to_json())
    else:
        _show(comparison, place)


def _show_plan(plan: "ComparisonPlan", place: Path, *, as_json: bool, quiet: bool) -> None:
    from kdcam.comparison.running import survey

    from . import render

    states = survey(plan, place)
    if as_json:
        runs = [{**state._asdict(), "folder": str(state.folder)} for state in states]
        render.show_json({"output": str(place), "messages": plan.messages, "runs": runs})
        return
    for text in () if quiet else plan.messages:
        render.show_notice(text)
    words = {"new": "to run", "unfinished": "to go on", "finished": "finished"}
    rows = [(state.name, state.problem or words[state.state]) for state in states]
    missing = sum(state.state != "finished" for state in states)
    title = f"{place}: {missing} of {len(states)} runs are missing"
    render.show_table(render.Table(("run", "state"), rows, title=title, left=2))


def _show(comparison: "Comparison", place: Path) -> None:
    from kdcam.comparison.outputs import CSV_FILE, CURVES_FILE, JSON_FILE, MARKDOWN_FILE

    from . import render

    render.show_table(comparison_table(comparison, title=str(place)))
    for selection in dict.fromkeys(row.selection for row in comparison.rows if row.selection is not None):
        render.show_text(f"selected: {_SELECTIONS[selection]}")
    for run in comparison.failed:
        render.show_text(f"failed: {run.name}: {run.reason}")
    names = [MARKDOWN_FILE, CSV_FILE, JSON_FILE, *([CURVES_FILE] if (place / CURVES_FILE).exists() else [])]
    render.show_text(f"all columns and how they were made: {place}/ {', '.join(names)}")


def comparison_table(comparison: "Comparison", *, title: str) -> "Table":
    """Return the columns of a comparison that fit a terminal; those that are empty everywhere are left out."""
    from kdcam.comparison.columns import SCORE_NAMES, difference_text, percent_text, seeds_text

    from .render import Table

    def shown_difference(row: "ComparedRow") -> str:
        text = difference_text(row.difference)
        whole = row.difference is not None and row.difference.pairs == len(comparison.seeds)
        return text.partition(" (")[0] if whole else text

    part = comparison.part
    columns = {
        "row": [row.name for row in comparison.rows],
        "seeds": [seeds_text(row, len(comparison.seeds)) for row in comparison.rows],
        f"{part} %": [percent_text(getattr(row, f"{part}_selected")) for row in comparison.rows],
        "last %": [percent_text(getattr(row, f"{part}_last")) for row in comparison.rows],
        "difference [95 %]": [shown_difference(row) for row in comparison.rows],
        "agreement %": [percent_text(row.agreement) for row in comparison.rows],
    }
    filled = {name: texts for name, texts in columns.items() if any(texts)}
    rows = list(zip(*filled.values(), strict=True))
    score = f"{SCORE_NAMES[comparison.score]}, mean ± standard deviation over seeds"
    return Table(tuple(filled), rows, title=f"{title}: {score}; difference to {comparison.base} by seed")


__all__ = ["compare", "comparison_table"]
