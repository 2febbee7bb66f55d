"""The files of a run folder as a report needs them; read without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.errors import CheckpointError
from kdcam.files.json_files_part import layout_errors, read_json
from kdcam.files.paths import exists, is_file, is_folder
from kdcam.runs.metrics_log import read_metrics
from kdcam.runs.run_files import RECIPE_FILE, RESULT_FILE, find_state
from kdcam.scores.main_scores import MAIN_SCORES

COMPARISON_FILE = "comparison.json"  # as kdcam.comparison.table.output_folder writes it, which needs torch


@dataclass(frozen=True)
class ReportedRun:
    """What lies in a run folder."""

    name: str  # in the report
    folder: Path
    record: dict[str, Any]  # recipe.json
    result: dict[str, Any] | None  # result.json; None: the run is not finished
    epochs: tuple[dict[str, Any], ...]  # the lines of metrics.jsonl

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as resolved."""
        recipe: dict[str, Any] = self.record["recipe"]
        return recipe

    @property
    def score(self) -> str:
        """The score that the run is judged by: "acc1" or "mean_ap"."""
        return MAIN_SCORES[self.recipe["task"]]


class ResultFile(NamedTuple):
    """A result file of one run."""

    run: str  # its name in the report
    folder: Path
    content: dict[str, Any]


def is_comparison(folder: Path) -> bool:
    """Return whether a folder is one that `kdcam compare` writes."""
    return is_file(folder / COMPARISON_FILE)


def check_reported_folder(folder: Path) -> None:
    """Raise ``CheckpointError`` where a path is neither the folder of a run nor that of a comparison."""
    if not is_folder(folder):
        what = "is a file" if exists(folder) else "there is no such folder"
        raise CheckpointError(f"{folder}: {what}; name the folder of a run or of a comparison")
    if not is_comparison(folder) and find_state(folder) == "new":
        raise CheckpointError(
            f"{folder}: holds neither a run ({RECIPE_FILE}) nor a comparison ({COMPARISON_FILE}); name a folder that "
            "`kdcam train`, `kdcam distill` or `kdcam compare` made"
        )


def read_reported(folder: Path, name: str) -> ReportedRun:
    """Return what lies in a run folder, finished or not.

    Raises ``CheckpointError`` where a file is damaged or of another layout.
    """
    finished = find_state(folder) == "finished"
    run = ReportedRun(
        name=name,
        folder=folder,
        record=read_json(folder / RECIPE_FILE),
        result=read_json(folder / RESULT_FILE) if finished else None,
        epochs=tuple(read_metrics(folder)),
    )
    with layout_errors(folder / RECIPE_FILE):
        if not (isinstance(run.recipe["epochs"], int) and isinstance(run.score, str)):
            raise TypeError("epochs is no whole number")
    return run


__all__ = [
    "COMPARISON_FILE",
    "ReportedRun",
    "ResultFile",
    "check_reported_folder",
    "is_comparison",
    "read_reported",
]
