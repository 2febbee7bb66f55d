"""Questions about paths that users gave, which any name answers: one too long, or with NUL in it, is not there."""

import os
import stat
from pathlib import Path

from kdcam.errors import KdcamError
from kdcam.wording import one_line


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


class FolderNames:
    """The paths that names in a file lead to, from a folder on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._root = Path(os.path.normpath(folder.absolute()))
        self._inside: dict[Path, bool] = {}  # whether a folder is inside once links are followed

    def path(self, name: str) -> Path | None:
        """Return the path of a name, without ``..`` in it; None: it leads out of the folder, through a link maybe."""
        path = Path(os.path.normpath(self._root / name))
        if not path.is_relative_to(self._root):
            return None
        return self.folder / path.relative_to(self._root) if self._stays(path) else None

    def _stays(self, path: Path) -> bool:
        if path == self._root or _is_link(path):
            return self._is_inside(path)
        if path.parent not in self._inside:
            self._inside[path.parent] = self._is_inside(path.parent)
        return self._inside[path.parent]

    def _is_inside(self, path: Path) -> bool:
        return resolved(path).is_relative_to(resolved(self._root))


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except (OSError, ValueError):
        return False


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
        reason = getattr(problem, "strerror", None) or str(problem)
        raise error(f"{where}: cannot be read ({reason})") from problem
    if len(data) > limit:
        raise error(f"{where}: has more than {limit / 1e6:g} MB, the most that is read of such a file")
    return data


__all__ = ["FolderNames", "exists", "expanded", "is_file", "is_folder", "read_bounded", "resolved", "shown"]
