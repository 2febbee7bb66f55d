"""The folder of a comparison: its tables and picture, which may be committed, and its run folders, which may not."""

import time
from contextlib import suppress
from pathlib import Path

from kdcam.atomic import make_folder, remove_leftovers, write_atomically
from kdcam.comparison.curves import draw_curves
from kdcam.comparison.table import Comparison
from kdcam.errors import CheckpointError, FolderInUseError
from kdcam.folder_lock import FolderLock
from kdcam.json_files import write_json

RUNS_FOLDER = "runs"
JSON_FILE, CSV_FILE, MARKDOWN_FILE = "comparison.json", "comparison.csv", "comparison.md"
CURVES_FILE = "curves.png"
_LOOK_SECONDS = 0.05


def run_folder(output: Path, name: str) -> Path:
    """Return the folder of the run of this name."""
    return output / RUNS_FOLDER / name


def prepare_output(output: Path) -> None:
    """Make the folder, with a .gitignore that keeps the run folders in it out of a repository.

    Raises ``CheckpointError`` where it cannot be made.
    """
    runs = output / RUNS_FOLDER
    make_folder(runs)
    if not (runs / ".gitignore").exists():
        write_atomically(runs / ".gitignore", b"*\n")


def write_comparison(output: Path, comparison: Comparison) -> None:
    """Write the tables and the picture of a comparison, each whole or not at all.

    Raises ``CheckpointError`` where one cannot be written.
    """
    picture = draw_curves(comparison)
    lock = _wait_for_lock(output / RUNS_FOLDER)
    try:
        remove_leftovers(output)
        write_json(output / JSON_FILE, comparison.to_json())
        write_atomically(output / CSV_FILE, comparison.to_csv().encode())
        write_atomically(output / MARKDOWN_FILE, comparison.to_markdown().encode())
        if picture is not None:
            write_atomically(output / CURVES_FILE, picture)
        else:
            _remove(output / CURVES_FILE)
    finally:
        lock.release()


def _wait_for_lock(folder: Path) -> FolderLock:
    """Return the lock once another comparison in the same folder, which needs it for an instant, has released it."""
    while True:
        with suppress(FolderInUseError):
            return FolderLock(folder)
        time.sleep(_LOOK_SECONDS)


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
    "RUNS_FOLDER",
    "prepare_output",
    "run_folder",
    "write_comparison",
]
