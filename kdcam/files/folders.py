"""Where the caches of teachers' outputs lie, and what a user is told of a folder that the system refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdcam.errors import CheckpointError
from kdcam.files.cache_home import cache_home
from kdcam.files.paths import expanded


def teacher_cache_folder(given: Path | None, own: str = "") -> Path:
    """Return the folder of one teacher's cache: the one that a recipe names (teacher.cache_folder), ``~`` written out,
    else ``own`` below the folder that holds the caches of all teachers.
    """
    return cache_home() / "teachers" / own if given is None else expanded(given)


@contextmanager
def cache_folder_errors(what: str, way_out: str) -> Iterator[None]:
    """Tell in a sentence that the system refuses something: ``what`` (why); ``way_out``.

    Raises ``CheckpointError`` in the place of ``OSError``, and of a ``CheckpointError`` that one caused and that speaks
    of a run's folder.
    """
    try:
        yield
    except (OSError, CheckpointError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        reason = cause.strerror or cause
        raise CheckpointError(f"teacher.cache_folder: {what} ({reason}); {way_out}") from cause


__all__ = ["cache_folder_errors", "teacher_cache_folder"]
