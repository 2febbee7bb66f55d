"""Where an evaluation keeps a picture of one run: in the run's figures/, which `kdcam report` shows."""

from pathlib import Path

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import check_writable, make_folder
from kdcam.files.paths import is_folder
from kdcam.runs.run_files import FIGURES_FOLDER


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
            f"{file}: cannot be removed ({error.strerror or error}), and it shows earlier numbers; remove it yourself"
        ) from error


__all__ = ["check_writable_file", "figure_file", "remove_figure"]
