"""`kdcam compare`."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdcam.blocks.document import Table
from kdcam.comparison.plan.grid import parse_names, parse_seeds
from kdcam.files.paths import exists
from kdcam.scores.main_scores import SCORE_NAMES

from . import render
from .options import Device, Json, Quiet, Sets

if TYPE_CHECKING:
    from kdcam.comparison.execution import CellState
    from kdcam.comparison.plan.comparison_plan import ComparisonPlan
    from kdcam.comparison.table.comparison_result import ComparedRow
    from kdcam.comparison.table.text_formats import Comparison

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
Losses = Annotated[
    str | None,
    typer.Option(
        "--losses",
        metavar="NAME,A+B,...",
        help="Losses: a row each, on the base. focal (trains a classifier): this one alone; cam (does not): the "
        "recipe's losses on the labels and cam; focal+cam: these two only. Settings: --set loss.cam.weight=3.",
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
    typer.Option(
        "--dry-run",
        help="Check all but the pictures; list the runs, what is missing and what cannot be run (exit code 1).",
    ),
]

_DIFFERENCE = "difference [95 %]"


def compare(
    recipes: Recipes = None,
    base: Base = None,
    methods: Methods = None,
    losses: Losses = None,
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
    """Run recipes, methods, losses or settings over seeds, and show one table.

    The same command again goes on with what was cut off, tries again what failed and shows the table; with more seeds
    it runs those. The table is also written as Markdown, CSV and JSON, with a picture of the curves.

    Exit code 0: every run is done; 1: one or more failed (the table stands and names them), or nothing could be run.
    """
    from kdcam.comparison.execution import (  # slow: torch
        DEFAULT_SEEDS,
        default_comparison_folder,
        run_comparison,
    )
    from kdcam.comparison.plan.comparison_plan import plan_comparison  # slow: torch

    plan = plan_comparison(
        recipes or (),
        base=base,
        methods=() if methods is None else parse_names(methods, flag="--methods"),
        losses=() if losses is None else parse_names(losses, flag="--losses"),
        grid=grid or (),
        sets=sets or (),
        teachers=teachers or (),
        seeds=DEFAULT_SEEDS if seeds is None else parse_seeds(seeds),
    )
    folder = output or default_comparison_folder(plan.rows[0].source)
    if dry_run:
        states = _check_plan(plan, folder, jobs=jobs, device=device)
        _show_plan(plan, states, folder, as_json=as_json, quiet=quiet)
        raise typer.Exit(int(any(state.problem is not None for state in states)))
    with render.watching(quiet=quiet) as progress:
        comparison = run_comparison(
            plan, output=folder, jobs=jobs, device=device, progress=progress, command=("kdcam", *sys.argv[1:])
        )
    if as_json:
        render.show_json(comparison.to_json())
    else:
        _show(comparison, folder)
    raise typer.Exit(int(bool(comparison.failed)))


def _check_plan(plan: "ComparisonPlan", folder: Path, *, jobs: int, device: str) -> "list[CellState]":
    from kdcam.comparison.execution import (  # slow: torch
        devices_of,
        find_cell_states,
        preflight_cells,
        teacher_digests,
    )
    from kdcam.comparison.table.output_folder import check_output  # slow: pydantic

    devices = devices_of(device, jobs)
    check_output(folder)
    return preflight_cells(plan, find_cell_states(plan, folder, teacher_digests(plan)), devices[0])


def _show_plan(
    plan: "ComparisonPlan", states: "Sequence[CellState]", folder: Path, *, as_json: bool, quiet: bool
) -> None:
    refused = sum(state.problem is not None for state in states)
    missing = sum(state.problem is None and state.state != "finished" for state in states)
    if as_json:
        runs = [
            {"name": one.name, "folder": str(one.folder), "state": one.state, "problem": one.problem}
            for one in states
        ]
        counts = {"missing": missing, "refused": refused}
        render.show_json({"output": str(folder), "messages": plan.messages, **counts, "runs": runs})
        return
    for text in () if quiet else plan.messages:
        render.show_notice(text)
    words = {"new": "to run", "unfinished": "to go on", "finished": "finished"}
    rows = [
        (one.name, words[one.state] if one.problem is None else f"cannot be run: {one.problem}")
        for one in states
    ]
    title = f"{folder}: {missing} of {len(states)} runs are missing" + (
        f", {refused} cannot be run" if refused else ""
    )
    render.show_table(Table(("run", "state"), rows, title=title, left=2))


def _show(comparison: "Comparison", folder: Path) -> None:
    from kdcam.comparison.table.notes import (  # slow: numpy
        choosing_note,
        other_data_note,
        selection_notes,
        tested_note,
    )
    from kdcam.comparison.table.output_folder import (  # slow: pydantic
        COMPARISON_FILE,
        CSV_FILE,
        CURVES_FILE,
        MARKDOWN_FILE,
    )

    tables = (
        comparison_table(comparison, title=str(folder)),
        further_table(comparison),
        evaluation_table(comparison),
    )
    for table in tables:
        if len(table.columns) > 1:
            render.show_table(table)
    single = (tested_note(comparison), choosing_note(comparison), other_data_note(comparison))
    for note in (*selection_notes(comparison), *(one for one in single if one is not None)):
        render.show_text(f"{note[:1].lower()}{note[1:]}")
    for text in comparison.left_out:
        render.show_text(f"left out: {text}")
    for run in comparison.failed:
        render.show_text(f"failed: {run.name}: {run.reason}")
    names = [MARKDOWN_FILE, CSV_FILE, COMPARISON_FILE]
    if exists(folder / CURVES_FILE):
        names.append(CURVES_FILE)
    render.show_text(f"all columns and how they were made: {folder}/ {', '.join(names)}")


def comparison_table(comparison: "Comparison", *, title: str) -> Table:
    """Return the scores of a comparison, in columns that fit a terminal; empty ones are left out."""
    from kdcam.comparison.table.text_formats import (  # slow: pydantic
        difference_text,
        percent_text,
        seeds_text,
    )

    def shown_difference(row: "ComparedRow") -> str:
        text = difference_text(row.difference)
        whole = row.difference is not None and row.difference.pairs == len(comparison.seeds)
        return text.partition(" (")[0] if whole else text

    part = comparison.part
    columns = {
        "row": [row.name for row in comparison.rows],
        "seeds": [seeds_text(row, len(comparison.seeds)) for row in comparison.rows],
        f"{part} %": [percent_text(getattr(row, f"{part}_selected")) for row in comparison.rows],
        "validation %": [percent_text(row.validation_selected) for row in comparison.rows],
        f"{part}, last %": [percent_text(getattr(row, f"{part}_last")) for row in comparison.rows],
        _DIFFERENCE: [shown_difference(row) for row in comparison.rows],
        "agreement %": [percent_text(row.agreement) for row in comparison.rows],
    }
    words = f"{title}: {SCORE_NAMES[comparison.score]}, mean ± standard deviation over seeds"
    differs = f"; difference to {comparison.base} by seed, in points" if any(columns[_DIFFERENCE]) else ""
    return _filled(columns, title=words + differs)


def further_table(comparison: "Comparison") -> Table:
    """Return what else a reader looks for, in columns that fit a terminal; empty ones are left out."""
    from kdcam.comparison.table.text_formats import percent_text, plain_text, speed_text  # slow: pydantic

    rows = comparison.rows
    columns = {
        "row": [row.name for row in rows],
        "validation, last %": [
            percent_text(row.validation_last) if comparison.part == "test" else "" for row in rows
        ],
        "CAM similarity": [plain_text(row.cam_similarity) for row in rows],
        "images/s": [speed_text(row.images_per_second) for row in rows],
        "parameters": ["" if row.parameters is None else f"{row.parameters:,}" for row in rows],
        "published %": [f"{row.published['accuracy']:.2f}" if row.published else "" for row in rows],
    }
    return _filled(columns)


def evaluation_table(comparison: "Comparison") -> Table:
    """Return what later evaluations of the runs found: few-shot, verification, localization."""
    from kdcam.comparison.table.text_formats import evaluation_lines  # slow: pydantic

    heads, lines = evaluation_lines(comparison)
    if not lines:
        return Table((), [])
    return Table(
        heads, lines, title="evaluations after training, mean ± standard deviation over seeds", left=2
    )


def _filled(columns: "Mapping[str, Sequence[str]]", *, title: str = "") -> Table:
    filled = {name: texts for name, texts in columns.items() if any(texts)}
    return Table(tuple(filled), list(zip(*filled.values(), strict=True)), title=title)


__all__ = ["compare", "comparison_table", "evaluation_table", "further_table"]
