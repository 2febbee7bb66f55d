"""The files of a run folder by name, how far the run in it got, and metrics.jsonl: one line an epoch."""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import check_writable, make_folder, write_atomically, write_synced
from kdcam.files.json_files import json_form, parse_json
from kdcam.files.paths import exists, is_folder, read_bounded
from kdcam.files.text_files import TEXT_LIMIT
from kdcam.settings.messages import reason_text

RECIPE_FILE = "recipe.json"
RESULT_FILE = "result.json"
PICTURES_FILE = "pictures.safetensors"
PICTURES_KEY = "pictures"  # of recipe.json, with the SHA-256 of that file
TRAINING_KEY = "training_data"  # of recipe.json, with what tells the images that the run began with
NOISE_FILE = "noise.safetensors"
METRICS_FILE = "metrics.jsonl"
ROBUSTNESS_FILE = "robustness.json"
AGREEMENT_FILE = "agreement.json"
FEW_SHOT_FILE = "few-shot.json"
EPISODES_FILE = "few-shot-episodes.safetensors"
VERIFICATION_FILE = "verification.json"
LOCALIZATION_FILE = "localization.json"
REPORT_FILE = "report.html"
FIGURES_FOLDER = "figures"
RESUME_FOLDER = "resume"

State = Literal["new", "unfinished", "finished"]
Resume = Literal["auto", "never"]


def find_state(path: Path) -> State:
    """Return how far the run in ``path`` got; "new" also where there is no such folder.

    A run is new while there is no recipe.json, unfinished until there is a result.json, finished after.
    """
    if not exists(path / RECIPE_FILE):
        return "new"
    return "finished" if exists(path / RESULT_FILE) else "unfinished"


def has_saved_state(path: Path) -> bool:
    """Return whether an unfinished run kept a state that it could go on from."""
    folder = path / RESUME_FOLDER
    return is_folder(folder) and any(folder.iterdir())


def figure_file(run: Path, name: str) -> Path:
    """Return the file of a run's picture."""
    return run / FIGURES_FOLDER / name


def check_writable_file(file: Path) -> None:
    """Make the folder of a file; ``CheckpointError`` where the file could not be written."""
    if is_folder(file):
        raise CheckpointError(f"{file}: is a folder, and the file of that name is to be written; remove it")
    make_folder(file.parent)
    check_writable(file.parent)


def remove_figure(file: Path) -> None:
    """Remove a picture of earlier numbers, where there is one; ``CheckpointError`` where it cannot be removed."""
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{file}: cannot be removed ({reason_text(error)}), and it shows earlier numbers; remove it yourself"
        ) from error


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl in order; none where the file is missing.

    A last line without its end, left by a killed process, is ignored.

    Raises:
        CheckpointError: Another line is not a JSON object with an "epoch".
    """
    path = folder / METRICS_FILE
    if not exists(path):
        return []
    content = read_bounded(path, limit=TEXT_LIMIT, error=CheckpointError)
    lines = content.split(b"\n")[:-1]
    return [_parse_line(path, number, line) for number, line in enumerate(lines, start=1)]


def append_metrics(folder: Path, record: Mapping[str, Any]) -> None:
    """Append one line and sync it to the disk; ``record`` holds at least "epoch".

    Raises:
        CheckpointError: The line cannot be written; the lines before it stay as they were.
    """
    path = folder / METRICS_FILE
    line = _metrics_line(json_form(record))
    try:
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                write_synced(file.fileno(), line)
            except OSError:
                with suppress(OSError):
                    file.truncate(size)
                raise
    except OSError as error:
        raise CheckpointError(
            f"{path}: a line could not be added ({reason_text(error)}); the lines before it are whole. "
            "Free some space and run the same command again"
        ) from error


def cut_metrics(folder: Path, last_epoch: int) -> None:
    """Drop the lines after ``last_epoch`` (counted from 1; 0 drops all) and a torn last one."""
    kept = [record for record in read_metrics(folder) if record["epoch"] <= last_epoch]
    write_atomically(folder / METRICS_FILE, b"".join(_metrics_line(record) for record in kept))


def _metrics_line(record: Any) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def _parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    place = f"{path}, line {number}"
    record: dict[str, Any] = parse_json(
        line, error=CheckpointError, place=str(path), line=number, way_out="mend or remove the line"
    )
    epoch = record.get("epoch") if isinstance(record, dict) else None
    if not isinstance(epoch, int) or isinstance(epoch, bool):
        raise CheckpointError(f"{place}: expected an object with a whole number as 'epoch'")
    return record


__all__ = [
    "AGREEMENT_FILE",
    "EPISODES_FILE",
    "FEW_SHOT_FILE",
    "FIGURES_FOLDER",
    "LOCALIZATION_FILE",
    "METRICS_FILE",
    "NOISE_FILE",
    "PICTURES_FILE",
    "PICTURES_KEY",
    "RECIPE_FILE",
    "REPORT_FILE",
    "RESULT_FILE",
    "RESUME_FOLDER",
    "ROBUSTNESS_FILE",
    "TRAINING_KEY",
    "VERIFICATION_FILE",
    "Resume",
    "State",
    "append_metrics",
    "check_writable_file",
    "cut_metrics",
    "figure_file",
    "find_state",
    "has_saved_state",
    "read_metrics",
    "remove_figure",
]
