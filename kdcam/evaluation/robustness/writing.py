"""What is said where an evaluation cannot write into a run's folder: it writes nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdcam.errors import CheckpointError, FolderInUseError


@contextmanager
def write_errors_explained(place: Path) -> Iterator[None]:
    """Raise ``CheckpointError`` with the ways out that an evaluation has, where its body raises another one.

    Args:
        place: the file, or the run's folder.
    """
    try:
        yield
    except FolderInUseError as error:
        raise FolderInUseError(
            f"{place}: another process is writing to this run, as its training does, or another evaluation; "
            "wait until it ends"
        ) from error
    except CheckpointError as error:
        found = error.__cause__
        why = getattr(found, "strerror", None) or found or error
        raise CheckpointError(
            f"{place}: cannot be written ({why}); free some space, or copy the run to a folder that you may write to"
        ) from error


__all__ = ["write_errors_explained"]
