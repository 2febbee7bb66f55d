"""How far the runs of a plan are, and which of them cannot be made, before anything is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdcam.comparison.plan.comparison_plan import Cell, ComparisonPlan
from kdcam.comparison.plan.grid import with_teacher_flag
from kdcam.comparison.table.output_folder import run_folder
from kdcam.comparison.table.run_measures import RunMeasures, read_run
from kdcam.errors import CheckpointError, KdcamError
from kdcam.files.differences import value_text
from kdcam.files.json_files_part import json_form, read_json
from kdcam.runs.resume_rules import WeightDigests, check_same_weights, checkpoint_digest
from kdcam.runs.run_files import RECIPE_FILE, State, find_state, has_saved_state, recipe_difference
from kdcam.training.preflight import preflight


class CellState(NamedTuple):
    """One run of a plan, and how far it is."""

    cell: Cell
    folder: Path
    state: State
    problem: str | None  # why it cannot be made, or cannot stand in this table
    measures: RunMeasures | None  # what it came to, where it is finished and can stand in this table

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.cell.name


def teacher_digests(plan: ComparisonPlan) -> WeightDigests:
    """Return the digest of the weights of every teacher and start in a plan, by checkpoint.

    Each file is read here only.
    """
    names = {
        table.checkpoint
        for row in plan.rows
        for table in (*row.recipe.teachers, row.teacher, row.recipe.init)
        if table is not None
    }
    return {name: checkpoint_digest(name) for name in sorted(names)}


def find_cell_states(plan: ComparisonPlan, output: Path, digests: WeightDigests) -> list[CellState]:
    """Return how far the runs of a plan are in a folder, and which of their folders cannot take them."""
    return [find_cell_state(cell, output, digests) for cell in plan.cells()]


def find_cell_state(cell: Cell, output: Path, digests: WeightDigests) -> CellState:
    """Return how far one run is, and whether its folder can take it; nothing is written."""
    folder, measures = run_folder(output, cell.name), None
    state = find_state(folder)
    try:
        if state == "finished":
            _check_stored_run(cell, folder, digests, what="a finished run")
            measures = read_run(folder)
        elif has_saved_state(folder):
            _check_stored_run(cell, folder, digests, what="an unfinished run")
    except CheckpointError as error:
        return CellState(cell, folder, state, str(error), None)
    return CellState(cell, folder, state, None, measures)


def _check_stored_run(cell: Cell, folder: Path, digests: WeightDigests, *, what: str) -> None:
    """Raise ``CheckpointError`` where a run is of another recipe, or of other weights of teacher or start than now."""
    record = read_json(folder / RECIPE_FILE)
    difference = recipe_difference(record, json_form(cell.recipe.model_dump(mode="json")))
    if difference is not None:
        place, there, here = difference
        raise CheckpointError(
            f"{folder}: holds {what} of another recipe ({place or 'recipe'}: {value_text(there)} there, "
            f"{value_text(here)} "
            "here); choose another folder with --output, or remove this one"
        )
    tables = [table for table in (*cell.recipe.teachers, cell.recipe.init) if table is not None]
    own = {table.checkpoint: digests.get(table.checkpoint) for table in tables}
    check_same_weights(folder, record, own, what=what)


def preflight_cells(plan: ComparisonPlan, states: Sequence[CellState], device: str) -> list[CellState]:
    """Return the states with what a run would be refused for when it begins: its data, its networks, its teacher.

    No image is decoded and nothing is downloaded.
    """
    rows = {one.cell.row.name: one.cell for one in states if one.problem is None and one.state != "finished"}
    problems: dict[str, str] = {}
    for name, cell in rows.items():
        try:
            preflight(cell.recipe, device=device, fetches=False)
        except KdcamError as error:
            problems[name] = with_teacher_flag(str(error), plan.teachers)
    return [
        one._replace(problem=problems[one.cell.row.name])
        if one.problem is None and one.state != "finished" and one.cell.row.name in problems
        else one
        for one in states
    ]


__all__ = ["CellState", "find_cell_state", "find_cell_states", "preflight_cells", "teacher_digests"]
