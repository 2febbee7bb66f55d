"""The folder of a comparison: its tables and picture, which may be committed, and its run folders, which may not."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from kdcam.comparison.table.comparison import Comparison
from kdcam.comparison.table.curves import draw_score_curves
from kdcam.errors import CheckpointError, FolderInUseError
from kdcam.files.atomic_writes import make_folder, remove_leftovers, write_atomically
from kdcam.files.folder_lock import FolderLock
from kdcam.files.json_files_part import read_json, write_json
from kdcam.files.paths import exists, is_file, is_folder
from kdcam.runs.run_files import find_state

RUNS_FOLDER = "runs"
JSON_FILE, CSV_FILE, MARKDOWN_FILE = "comparison.json", "comparison.csv", "comparison.md"
CURVES_FILE = "curves.png"
PREVIOUS_TABLE = "comparison-previous"
"""The name, before .json, .csv and .md, of the last table that had rows or runs which its successor lacks."""

_LOCK_POLL_SECONDS = 0.05


def run_folder(output: Path, name: str) -> Path:
    """Return the folder of the run of this name."""
    return output / RUNS_FOLDER / name


def check_output(output: Path) -> None:
    """Raise ``CheckpointError`` where a folder is that of a run, or no folder can be made or written to there."""
    if find_state(output) != "new":
        raise CheckpointError(
            f"--output {output}: is the folder of a run, which a comparison would be written into; name another one, "
            f"as in --output {output}-compared"
        )
    there = next((one for one in (output, *output.absolute().parents) if exists(one)), output)
    if not is_folder(there) or not os.access(there, os.W_OK | os.X_OK):
        raise CheckpointError(
            f"--output {output}: {there} is no folder that may be written to; name another one"
        )


def prepare_output(output: Path) -> None:
    """Make the folder, with a .gitignore that keeps the run folders in it out of a repository.

    Raises ``CheckpointError`` where it cannot be made.
    """
    runs = output / RUNS_FOLDER
    make_folder(runs)
    if not exists(runs / ".gitignore"):
        write_atomically(runs / ".gitignore", b"*\n")


def write_comparison(output: Path, comparison: Comparison, *, keeps_previous: bool = True) -> tuple[str, ...]:
    """Write the tables and the picture of a comparison, each whole or not at all.

    Returns the rows and finished seeds of the table before that this one lacks; where there are any, it is kept under
    `PREVIOUS`. Without ``keeps_previous`` the table before is not looked at.

    Raises ``CheckpointError`` where one cannot be written.
    """
    picture = draw_score_curves(comparison)
    lock = _wait_for_lock(output / RUNS_FOLDER)
    try:
        remove_leftovers(output)
        lost = _lost(output / JSON_FILE, comparison) if keeps_previous else ()
        if lost:
            _keep_previous(output)
        write_json(output / JSON_FILE, comparison.to_json())
        write_atomically(output / CSV_FILE, comparison.to_csv().encode(errors="backslashreplace"))
        write_atomically(output / MARKDOWN_FILE, comparison.to_markdown().encode(errors="backslashreplace"))
        if picture is not None:
            write_atomically(output / CURVES_FILE, picture)
        else:
            _remove(output / CURVES_FILE)
    finally:
        lock.release()
    return lost


def _lost(file: Path, comparison: Comparison) -> tuple[str, ...]:
    """Return what the table that lies there has and the new one lacks; its name, where it is no such table."""
    if not exists(file):
        return ()
    here = {row.folder: set(row.seeds) for row in comparison.rows}
    try:
        return tuple(_lost_rows(read_json(file)["rows"], here))
    except (CheckpointError, KeyError, TypeError):
        return (f"all of {file.name}",)


def _lost_rows(before: Iterable[Mapping[str, Any]], here: Mapping[str, set[int]]) -> Iterator[str]:
    for row in before:
        name, folder, seeds = str(row["name"]), str(row["folder"]), list(row["seeds"])
        if folder not in here:
            yield name
        elif gone := [seed for seed in seeds if seed not in here[folder]]:
            yield f"{name} with seed{'' if len(gone) == 1 else 's'} {' '.join(map(str, gone))}"


def _keep_previous(output: Path) -> None:
    for name in (CSV_FILE, MARKDOWN_FILE, JSON_FILE):
        if is_file(output / name):
            write_atomically(output / f"{PREVIOUS_TABLE}{Path(name).suffix}", (output / name).read_bytes())


def _wait_for_lock(folder: Path) -> FolderLock:
    """Return the lock once another comparison in the same folder, which needs it for an instant, has released it."""
    while True:
        with suppress(FolderInUseError):
            return FolderLock(folder)
        time.sleep(_LOCK_POLL_SECONDS)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{path}: is of an earlier comparison and cannot be removed ({error.strerror or error})"
        ) from error


__all__ = [
    "CSV_FILE",
    "CURVES_FILE",
    "JSON_FILE",
    "MARKDOWN_FILE",
    "PREVIOUS_TABLE",
    "RUNS_FOLDER",
    "check_output",
    "prepare_output",
    "run_folder",
    "write_comparison",
]
