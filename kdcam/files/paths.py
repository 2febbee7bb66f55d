"""Paths that users gave, whatever they hold (one too long, or with NUL, is not there), and kdcam's cache folders."""

import os
import stat
from pathlib import Path

from kdcam.errors import KdcamError
from kdcam.settings.messages import one_line, reason_text


def exists(path: str | Path) -> bool:
    """Return whether anything lies at ``path``; False for a name that no file system takes."""
    return _status(path) is not None


def is_file(path: str | Path) -> bool:
    """Return whether a file lies at ``path``; False for a name that no file system takes."""
    status = _status(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def is_folder(path: str | Path) -> bool:
    """Return whether a folder lies at ``path``; False for a name that no file system takes."""
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` written out; as it is where there is no such user, so that nothing lies there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def resolved(path: str | Path) -> Path:
    """Return a path from the root of the file system on, with links followed; as far as they lead anywhere."""
    try:
        return Path(path).resolve()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle
        return Path(path).absolute()


def path_below(folder: Path, name: str) -> Path | None:
    """Return the path that a name in a file leads to, from ``folder`` on, without ``..`` in it; None: it leads out.

    Links in the folder are its owner's, and may lead anywhere.
    """
    root = Path(os.path.normpath(folder.absolute()))
    path = Path(os.path.normpath(root / name))
    return folder / path.relative_to(root) if path.is_relative_to(root) else None


def _status(path: str | Path) -> os.stat_result | None:
    try:
        return Path(path).stat()
    except (OSError, ValueError):  # ValueError: NUL in it, or a lone surrogate
        return None


def shown(path: str | Path) -> str:
    """Return a path as a message may hold it: bytes that are no UTF-8 and control characters as escapes."""
    return one_line(str(path))


def read_bounded(path: Path, *, limit: int, error: type[KdcamError], place: str | None = None) -> bytes:
    """Return the bytes of a file that may have ``limit`` of them at most.

    Args:
        path: The file.
        limit: Bytes that it may have; more than that is not read.
        error: What is raised.
        place: How the message begins; the path unless given.

    Raises:
        KdcamError: of the type ``error``: the file is missing, cannot be read, or is larger than ``limit``.
    """
    where = place or shown(path)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as problem:
        raise error(f"{where}: cannot be read ({reason_text(problem)})") from problem
    if len(data) > limit:
        raise error(f"{where}: has more than {limit / 1e6:g} MB, the most that is read of such a file")
    return data


def cache_home() -> Path:
    """Return kdcam's cache folder: below XDG_CACHE_HOME where it is set, else below ~/.cache."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "kdcam"


def teacher_cache_folder(given: Path | None, own: str = "") -> Path:
    """Return the folder of one teacher's cache: the one that a recipe names (teacher.cache_folder), ``~`` written out,
    else ``own`` below the folder that holds the caches of all teachers.
    """
    return cache_home() / "teachers" / own if given is None else expanded(given)


__all__ = [
    "cache_home",
    "exists",
    "expanded",
    "is_file",
    "is_folder",
    "path_below",
    "read_bounded",
    "resolved",
    "shown",
    "teacher_cache_folder",
]
