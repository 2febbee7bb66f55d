"""Folders listed: hidden and system entries are left out, and links never make a file of two."""

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from kdcam.errors import DataError
from kdcam.files.paths import shown
from kdcam.settings.messages import reason_text

# Left by file managers, systems and network drives, besides all that begins with a point; compared without case.
_SYSTEM_FOLDERS = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "@tmp",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "system volume information",
        "lost+found",
        "found.000",
        "network trash folder",
        "temporary items",
    }
)
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r"})


class FileTree(NamedTuple):
    """The files below a folder."""

    files: tuple[Path, ...]  # by path
    has_links: bool  # a link was met, so that other folders may hold the same files


def nfc(name: str) -> str:
    """Return a name in Unicode's composed form (NFC): file systems and archives write one letter in several ways."""
    return unicodedata.normalize("NFC", name)


def is_utf8(name: str) -> bool:
    """Return whether a name of the file system is UTF-8, so that other files can name it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_hidden_folder(name: str) -> bool:
    """Return whether a folder of this name is hidden or the system's own."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS


def is_hidden_file(name: str) -> bool:
    """Return whether a file of this name is hidden or left by a file manager."""
    return name.startswith(".") or name.casefold() in _SYSTEM_FILES


def folders_in(folder: Path) -> list[Path]:
    """Return the folders right below a folder, by name, without hidden ones and links to it or to one above it.

    Raises ``DataError`` where the folder cannot be listed.
    """
    entries = _entries(folder)
    real = os.path.realpath(folder)
    found = [
        folder / entry.name
        for entry in entries
        if not is_hidden_folder(entry.name)
        and _is_folder(entry)
        and not (entry.is_symlink() and _is_within(real, os.path.realpath(entry.path)))
    ]
    return sorted(found, key=lambda path: path.name)


def files_in(folder: Path) -> list[Path]:
    """Return the files right in a folder that are not hidden, by name; ``DataError`` where it cannot be listed."""
    names = [entry.name for entry in _entries(folder) if not is_hidden_file(entry.name) and entry.is_file()]
    return [folder / name for name in sorted(names)]


def files_below(folder: Path) -> list[Path]:
    """Return the files below a folder, at any depth, that are not hidden, by path; see ``tree_below``."""
    return list(tree_below(folder).files)


def tree_below(folder: Path) -> FileTree:
    """Return the files below a folder, at any depth, that are not hidden nor in a hidden folder.

    Links are followed, and each real folder and each real file counts once; a link to a folder above is not followed.

    Raises ``DataError`` where a folder cannot be listed.
    """
    folders = list(_listed_folders(folder))
    plain = [one.path / name for one in folders for name in one.files]
    linked = sorted(one.path / name for one in folders for name in one.linked_files)
    if linked:
        taken = {f"{one.real}{os.sep}{name}" for one in folders for name in one.files}
        for path, real in zip(linked, real_paths(linked), strict=True):
            if real not in taken:
                taken.add(real)
                plain.append(path)
    has_links = bool(linked) or folder.is_symlink() or any(one.has_linked_folders for one in folders)
    return FileTree(tuple(sorted(plain)), has_links)


def real_paths(paths: Iterable[Path]) -> Iterator[str]:
    """Yield where files really lie, links resolved; each folder is resolved once."""
    real_folders: dict[str, str] = {}

    def real_of(folder: str) -> str:
        if folder not in real_folders:
            real_folders[folder] = os.path.realpath(folder)
        return real_folders[folder]

    for path in map(str, paths):
        folder, name = os.path.split(path)
        real = f"{real_of(folder)}{os.sep}{name}"
        try:
            target = os.readlink(real)  # noqa: PTH115  # texts
        except OSError:  # no link
            yield real
            continue
        folder, name = os.path.split(os.path.join(os.path.dirname(real), target))  # noqa: PTH118, PTH120  # texts
        real = f"{real_of(folder)}{os.sep}{name}"
        # A link to a link, or to a folder's own name, goes the long way.
        yield os.path.realpath(real) if name in ("", ".", "..") or os.path.islink(real) else real  # noqa: PTH114  # texts


class _ListedFolder(NamedTuple):
    path: Path
    real: str
    files: list[str]
    linked_files: list[str]
    has_linked_folders: bool


def _listed_folders(folder: Path) -> Iterator[_ListedFolder]:
    """Yield the folders below a folder, itself included; links last, so that a folder goes by its own path."""
    try:
        base = os.path.realpath(folder)
    except ValueError as error:  # NUL
        raise DataError(f"{shown(folder)}: the folder cannot be listed ({reason_text(error)})") from error
    entered = {base}
    plain, links = [(folder, base)], list[tuple[Path, str]]()
    while plain or links:
        path, real = plain.pop() if plain else _first_link(links)
        if path != folder and real in entered:
            continue
        entered.add(real)
        listed, folders = _ListedFolder(path, real, [], [], False), list[os.DirEntry[str]]()
        for entry in _entries(path):
            if _is_folder(entry):
                folders += [entry] * (not is_hidden_folder(entry.name))
            elif not is_hidden_file(entry.name):
                (listed.linked_files if entry.is_symlink() else listed.files).append(entry.name)
        for entry in folders:
            if not entry.is_symlink():
                plain.append((path / entry.name, os.path.join(real, entry.name)))  # noqa: PTH118  # texts
                continue
            target = os.path.realpath(entry.path)
            if not _is_within(real, target) and not _is_within(base, target):
                links.append((path / entry.name, target))
        yield listed._replace(has_linked_folders=any(entry.is_symlink() for entry in folders))


def _first_link(links: list[tuple[Path, str]]) -> tuple[Path, str]:
    return links.pop(links.index(min(links)))


def _is_within(real: str, target: str) -> bool:
    """Return whether a real path is ``target`` or lies below it."""
    return real == target or real.startswith(target.rstrip(os.sep) + os.sep)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (OSError, ValueError) as error:
        raise DataError(f"{shown(folder)}: the folder cannot be listed ({reason_text(error)})") from error


__all__ = [
    "FileTree",
    "files_below",
    "files_in",
    "folders_in",
    "is_hidden_file",
    "is_hidden_folder",
    "is_utf8",
    "nfc",
    "real_paths",
    "tree_below",
]
