"""compare: how far the runs of a plan are, those that are missing done several at once, one table of all."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from kdcam.comparison.plan.comparison_plan import Cell, ComparisonPlan, plan_comparison
from kdcam.comparison.plan.grid import with_teacher_flag
from kdcam.comparison.table.aggregation import build_comparison
from kdcam.comparison.table.output_folder import (
    MARKDOWN_FILE,
    PREVIOUS_TABLE,
    check_output,
    prepare_output,
    run_folder,
    write_comparison,
)
from kdcam.comparison.table.run_measures import RunMeasures, read_run
from kdcam.comparison.table.text_formats import Comparison
from kdcam.comparison.teacher_agreement import is_measured
from kdcam.comparison.workers.local_process import RunTask
from kdcam.comparison.workers.worker_pool import WorkerPool
from kdcam.errors import CheckpointError, Interrupted, KdcamError, RecipeError, TrainingError
from kdcam.files.json_files import json_form, read_json, value_text
from kdcam.recipe.recipe_files import recipe_stem
from kdcam.runs.picture_record import recorded_digest
from kdcam.runs.resume_rules import WeightDigests, check_same_weights, checkpoint_digest, recipe_difference
from kdcam.runs.run_data import warn_of_changed_data
from kdcam.runs.run_files import RECIPE_FILE, State, find_state, has_saved_state
from kdcam.runtime.distributed import check_single_process
from kdcam.runtime.machine import describe_machine
from kdcam.runtime.precision import pick_device
from kdcam.runtime.progress import Progress, Silent
from kdcam.settings.messages import listed
from kdcam.training.preflight import preflight

DEFAULT_SEEDS = (0, 1, 2)


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


def compare(
    recipes: Sequence[str] = (),
    *,
    base: str | None = None,
    methods: Sequence[str] = (),
    losses: Sequence[str] = (),
    grid: Sequence[str] = (),
    sets: Sequence[str] = (),
    teachers: Sequence[str] = (),
    seeds: Sequence[int] = DEFAULT_SEEDS,
    jobs: int = 1,
    output: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Comparison:
    """Run recipes, methods, losses and settings over seeds, and return the table of all, as it is also written.

    Runs that an earlier call finished are taken as they are, those that were cut off go on, and those that failed are
    tried again. Written: comparison.md, .csv and .json, curves.png, and the run folders in runs/.

    Args:
        recipes: Shipped recipes' names or TOML files.
        base: The recipe of the table's first row; see `kdcam.comparison.plan.comparison_plan.plan_comparison`, as for
            ``methods``, ``losses``, ``grid``, ``sets``, ``teachers`` and ``seeds``.
        methods: Distillation methods, or "alone".
        losses: "cam" (the recipe's losses on the labels and cam), "focal" (alone), "focal+cam" (both and no others) ...
        grid: ``key=v1,v2,...``.
        sets: ``key=value`` for all rows.
        teachers: Checkpoints in the place of the recipes' teachers.
        seeds: Each row is run with each of them.
        jobs: How many runs at once, each in a process of its own. They share the processor's cores and the device, so
            images/s is comparable only between comparisons of equal ``jobs``.
        output: The folder; by default ``runs/compare-<recipe>`` below the current folder.
        device: auto, cpu, cuda, cuda:INDEX or mps; with auto and several CUDA devices the runs are spread over them.
        progress: Who watches.
        command: The command line, for the record.

    Raises:
        RecipeError: The plan, the device or ``jobs`` is wrong; nothing has been run.
        CheckpointError: The folder cannot be written, or is that of a run.
        TrainingError: No run came to its end; or none can be made, and nothing has been written.
        Interrupted: The watcher asked to stop; what is done stays, and the states of the other runs are kept.
    """
    plan = plan_comparison(
        recipes,
        base=base,
        methods=methods,
        losses=losses,
        grid=grid,
        sets=sets,
        teachers=teachers,
        seeds=seeds,
    )
    folder = Path(output) if output is not None else default_comparison_folder(plan.rows[0].source)
    return run_comparison(
        plan, output=folder, jobs=jobs, device=device, progress=progress or Silent(), command=command
    )


def default_comparison_folder(recipe: str) -> Path:
    """Return the folder of a comparison whose first row is of this recipe."""
    return Path("runs") / f"compare-{recipe_stem(recipe)}"


def run_comparison(
    plan: ComparisonPlan,
    *,
    output: Path,
    jobs: int,
    device: str,
    progress: Progress,
    command: Sequence[str] = (),
) -> Comparison:
    """Do what is missing of a plan, write the table, and return it; arguments and errors as those of `compare`."""
    check_single_process()
    devices = devices_of(device, jobs)
    check_output(output)
    digests = teacher_digests(plan)
    states = find_cell_states(plan, output, digests)
    if all(one.problem is not None for one in states):
        raise _no_run_finished(output, {one.name: str(one.problem) for one in states})
    for text in plan.messages:
        progress.message(text)
    _warn_of_changed_data(states, progress)
    prepare_output(output)
    tasks = list(_tasks(plan, states, digests, progress, command))
    refused = sum(one.problem is not None for one in states)
    writer = _TableWriter(plan, output, digests, progress, command)
    pool = WorkerPool(
        tasks,
        devices=devices[: max(1, len(tasks))],
        # However many runs are missing: torch's last bits depend on it, and the table must not on where it was cut.
        threads=max(1, describe_machine()["cores"] // jobs),
        progress=progress,
        done=len(states) - len(tasks) - refused,
        failed=refused,
        on_end=writer.write_so_far,
    )
    try:
        failed = pool.work()
    except Interrupted as stop:
        raise Interrupted(f"{output}: {stop}; states are kept, the same command goes on") from stop
    comparison, reasons = writer.write(failed)
    if len(reasons) == len(states):
        raise _no_run_finished(output, reasons, table=output / MARKDOWN_FILE)
    return comparison


def _warn_of_changed_data(states: Sequence[CellState], progress: Progress) -> None:
    """Warn where pictures of finished runs have changed since; once for runs on the same pictures."""
    checked = set[tuple[str | None, str]]()
    for one in states:
        if one.state == "finished" and one.problem is None:
            data = one.cell.recipe.data
            same = (recorded_digest(one.folder), data.model_dump_json())
            if same not in checked:
                checked.add(same)
                warn_of_changed_data(one.folder, data, progress=progress)


def _no_run_finished(output: Path, reasons: Mapping[str, str], table: Path | None = None) -> TrainingError:
    name, reason = next(iter(reasons.items()))
    others = f" (the others' reasons are in {table})" if table is not None and len(reasons) > 1 else ""
    what = "can be made" if table is None else "came to its end"
    return TrainingError(f"{output}: none of the {len(reasons)} runs {what}; {name}: {reason}{others}")


def devices_of(device: str, jobs: int) -> tuple[str, ...]:
    """Return the device of each of ``jobs`` workers: with "auto" the CUDA devices in turn, where there are several.

    Raises ``RecipeError`` where there is no such device or ``jobs`` is below 1.
    """
    if jobs < 1:
        raise RecipeError(f"--jobs {jobs}: must be at least 1")
    if device == "auto" and torch.cuda.device_count() > 1:
        return tuple(f"cuda:{index % torch.cuda.device_count()}" for index in range(jobs))
    pick_device(device)
    return (device,) * jobs


def _tasks(
    plan: ComparisonPlan,
    states: Sequence[CellState],
    digests: WeightDigests,
    progress: Progress,
    command: Sequence[str],
) -> Iterator[RunTask]:
    """Yield what is to be done; a run whose folder cannot take it is told now, not after hours."""
    for one in states:
        cell, teacher = one.cell, one.cell.row.teacher
        if one.problem is not None:
            progress.warning(f"{cell.name}: failed: {one.problem}")
        elif one.state != "finished" or not (teacher is None or is_measured(one.folder, teacher, digests)):
            yield RunTask(
                name=cell.name,
                recipe=cell.recipe.model_dump(mode="json"),
                output=str(one.folder),
                teacher=None if teacher is None else teacher.model_dump(mode="json"),
                teacher_flags=plan.teachers,
                command=tuple(command),
            )


class _TableWriter:
    """Writes the table of what the run folders hold, as often as it is asked."""

    def __init__(
        self,
        plan: ComparisonPlan,
        output: Path,
        digests: WeightDigests,
        progress: Progress,
        command: Sequence[str],
    ) -> None:
        self.plan, self.output, self.digests = plan, output, digests
        self.progress, self.command = progress, command
        self.keeps_previous = True

    def write(self, failed: Mapping[str, str]) -> tuple[Comparison, dict[str, str]]:
        """Write the table; return it, and why the failed cells failed, by name: ``failed`` and those refused."""
        runs, reasons = {}, dict[str, str]()
        for one in find_cell_states(self.plan, self.output, self.digests):
            if one.problem is not None:
                reasons[one.name] = one.problem
            elif one.measures is not None:  # by another process perhaps, though it failed in this one
                runs[one.name] = one.measures
            elif one.name in failed:
                reasons[one.name] = failed[one.name]
        comparison = build_comparison(self.plan, runs, reasons, command=self.command)
        lost = write_comparison(self.output, comparison, keeps_previous=self.keeps_previous)
        if lost:
            # Once: what is kept is the table of before this comparison, not one of its own.
            self.keeps_previous = False
            self.progress.warning(
                f"{self.output}: held a table with what this one lacks ({listed(lost)}); it is kept as "
                f"{PREVIOUS_TABLE}.*"
            )
        return comparison, reasons

    def write_so_far(self, failed: Mapping[str, str]) -> None:
        """Write the table while runs are under way: a long comparison can be read before its end."""
        try:
            self.write(failed)
        except CheckpointError as error:
            self.progress.warning(f"the table so far is not written: {error}")


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
            f"{value_text(here)} here); choose another folder with --output, or remove this one"
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


__all__ = [
    "DEFAULT_SEEDS",
    "CellState",
    "compare",
    "default_comparison_folder",
    "devices_of",
    "find_cell_state",
    "find_cell_states",
    "preflight_cells",
    "run_comparison",
    "teacher_digests",
]
