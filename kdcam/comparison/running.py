"""compare: does the runs of a plan that are missing, several at once, and writes one table of all."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from kdcam.comparison.agreement import is_measured
from kdcam.comparison.measures import read_run
from kdcam.comparison.outputs import prepare_output, run_folder, write_comparison
from kdcam.comparison.plan import Cell, ComparisonPlan, plan_comparison
from kdcam.comparison.table import Comparison, build_comparison
from kdcam.comparison.workers import Crew, Task
from kdcam.errors import CheckpointError, Interrupted, RecipeError, TrainingError
from kdcam.machine import describe_machine
from kdcam.precision import pick_device
from kdcam.progress import Progress, Silent
from kdcam.recipe_files import recipe_stem
from kdcam.run_state import State, find_state
from kdcam.training import finished_run

SEEDS = (0, 1, 2)


def compare(
    recipes: Sequence[str] = (),
    *,
    base: str | None = None,
    methods: Sequence[str] = (),
    grid: Sequence[str] = (),
    sets: Sequence[str] = (),
    teachers: Sequence[str] = (),
    seeds: Sequence[int] = SEEDS,
    jobs: int = 1,
    output: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> Comparison:
    """Run recipes, methods and settings over seeds, and return the table of all, as it is also written.

    Runs that an earlier call finished are taken as they are, those that were cut off go on, and those that failed are
    tried again. Written: comparison.md, .csv and .json, curves.png, and the run folders in runs/.

    Args:
        recipes: Shipped recipes' names or TOML files.
        base: The recipe of the table's first row; see `kdcam.comparison.plan.plan_comparison`, as for ``methods``,
            ``grid``, ``sets``, ``teachers`` and ``seeds``.
        methods: Distillation methods, or "alone".
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
        CheckpointError: The folder cannot be written.
        TrainingError: No run came to its end.
        Interrupted: The watcher asked to stop; what is done stays, and the states of the other runs are kept.
    """
    plan = plan_comparison(
        recipes, base=base, methods=methods, grid=grid, sets=sets, teachers=teachers, seeds=seeds
    )
    place = Path(output) if output is not None else default_output(plan.rows[0].source)
    return run_comparison(
        plan, output=place, jobs=jobs, device=device, progress=progress or Silent(), command=command
    )


def default_output(recipe: str) -> Path:
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
    devices = devices_of(device, jobs)
    for text in plan.messages:
        progress.message(text)
    prepare_output(output)
    cells = plan.cells()
    tasks = list(_tasks(cells, output, progress, command))

    def write_so_far(_: str) -> None:
        try:
            _write(plan, output, {}, command)  # a long comparison can be read before its end
        except CheckpointError as error:
            progress.warning(f"the table so far is not written: {error}")

    crew = Crew(
        tasks,
        devices=devices,
        threads=max(1, describe_machine()["cores"] // len(devices)),
        progress=progress,
        done=len(cells) - len(tasks),
        on_done=write_so_far,
    )
    try:
        failed = crew.work()
    except Interrupted as stop:
        raise Interrupted(f"{output}: {stop}; states are kept, the same command goes on") from stop
    comparison, reasons = _write(plan, output, failed, command)
    if len(reasons) == len(cells):
        name, reason = next(iter(reasons.items()))
        raise TrainingError(
            f"{output}: none of the {len(cells)} runs came to its end; {name}: {reason}"
            + (f" (the others' reasons are in {output / 'comparison.md'})" if len(cells) > 1 else "")
        )
    return comparison


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


class CellState(NamedTuple):
    """One run of a plan, and how far it is."""

    name: str
    folder: Path
    state: State
    problem: str | None  # why the folder cannot take the run


def survey(plan: ComparisonPlan, output: Path) -> list[CellState]:
    """Return how far the runs of a plan are in a folder; nothing is written."""
    return [_state(cell, run_folder(output, cell.name)) for cell in plan.cells()]


def _state(cell: Cell, folder: Path) -> CellState:
    problem = None
    try:
        finished_run(cell.recipe, output=folder, resume="auto")
    except CheckpointError as error:
        problem = str(error)
    return CellState(cell.name, folder, find_state(folder), problem)


def _tasks(cells: Sequence[Cell], output: Path, progress: Progress, command: Sequence[str]) -> Iterator[Task]:
    """Yield what is to be done; a run whose folder cannot take it is told now, not after hours."""
    for cell in cells:
        folder, teacher = run_folder(output, cell.name), cell.row.teacher
        try:
            is_finished = finished_run(cell.recipe, output=folder, resume="auto") is not None
            is_done = is_finished and (teacher is None or is_measured(folder, teacher))
        except CheckpointError as error:
            progress.warning(f"{cell.name}: failed: {error}")
            continue
        if not is_done:
            yield Task(
                name=cell.name,
                recipe=cell.recipe.model_dump(mode="json"),
                output=str(folder),
                teacher=None if teacher is None else teacher.model_dump(mode="json"),
                command=tuple(command),
            )


def _write(
    plan: ComparisonPlan, output: Path, failed: Mapping[str, str], command: Sequence[str]
) -> tuple[Comparison, dict[str, str]]:
    """Write the table of what the run folders hold; return it, and why the failed cells failed, by name."""
    runs, reasons = {}, dict[str, str]()
    for cell in plan.cells():
        folder = run_folder(output, cell.name)
        try:
            # Another process may have finished a run that failed in this one.
            if finished_run(cell.recipe, output=folder, resume="auto") is not None:
                runs[cell.name] = read_run(folder)
            elif cell.name in failed:
                reasons[cell.name] = failed[cell.name]
        except CheckpointError as error:
            reasons[cell.name] = str(error)
    comparison = build_comparison(plan, runs, reasons, command=command)
    write_comparison(output, comparison)
    return comparison, reasons


__all__ = ["SEEDS", "CellState", "compare", "default_output", "devices_of", "run_comparison", "survey"]
