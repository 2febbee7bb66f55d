"""A cache's folder: cache.json says what counts in it, and an .npy file holds each array (V, N, ...) in fp16."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdcam.errors import CheckpointError
from kdcam.files.folders import cache_folder_errors
from kdcam.files.json_files_part import read_json, write_json
from kdcam.files.paths import is_file, is_folder
from kdcam.runtime.machine import package_versions
from kdcam.training.teachers.cache_folder import ArrayFile, EntryShapes, array_files
from kdcam.training.teachers.cache_key import CacheKey, key_difference

INDEX = "cache.json"

_NOTED = ("kdcam", "torch")  # packages that draw the views
_READABLE = "make it readable, or name another folder"


class CacheContents(NamedTuple):
    """What a cache's folder holds."""

    versions: Mapping[str, str | None]  # of packages, as it was begun
    whole: tuple[EntryShapes, ...] = ()
    filling: tuple[EntryShapes, ...] = ()  # what a process is writing, or was when it ended
    views_done: int = 0  # of these, views that are whole


def empty_contents() -> CacheContents:
    """Return the contents of a cache that is begun now."""
    return CacheContents(versions_now())


def versions_now() -> dict[str, str | None]:
    """Return the versions of the packages that draw the views."""
    versions = package_versions()
    return {name: versions[name] for name in _NOTED}


def entry_files(folder: Path, key: CacheKey, entries: Iterable[EntryShapes]) -> Iterator[ArrayFile]:
    """Yield the files of entries of a key, in order."""
    return array_files(folder, entries, views=key.views.per_image, images=key.data.images)


def read_contents(folder: Path, key: CacheKey) -> CacheContents:
    """Return what a folder holds of a key; entries with a file that is missing or cut off count as not there.

    Raises ``CheckpointError`` where it holds a cache of another key, naming the first difference, or other files,
    where its cache.json is damaged, and where it cannot be read.
    """
    with cache_folder_errors(f"{folder} cannot be read", _READABLE):
        there = _has_index(folder)
    if not there:
        return empty_contents()
    record = _read_index(folder)
    difference = key_difference(record.get("key", {}), key)
    if difference is not None:
        raise CheckpointError(
            f"teacher.cache_folder: {folder} holds the cache of something else: {difference}; name another folder, or "
            "leave the key out for a folder of its own"
        )
    contents = _parsed(folder, record)
    with cache_folder_errors(f"{folder} cannot be read", _READABLE):
        whole = tuple(
            entry
            for entry in contents.whole
            if all(_size(file.path) == file.size() for file in entry_files(folder, key, [entry]))
        )
    return contents._replace(whole=whole)


def write_contents(folder: Path, key: CacheKey, contents: CacheContents) -> None:
    """Write cache.json, whole or not at all; ``CheckpointError`` where it cannot be written."""
    record = {
        "key": key.table(),
        "versions": contents.versions,
        "whole": dict(contents.whole),
        "filling": dict(contents.filling),
        "views": contents.views_done,
    }
    way_out = 'free some space, name another folder, or set teacher.cache = "none"'
    with cache_folder_errors(f"{folder / INDEX} cannot be written", way_out):
        write_json(folder / INDEX, record)


def changed_versions(contents: CacheContents) -> dict[str, tuple[str | None, str | None]]:
    """Return the packages whose version is another one than when the cache was begun: (then, now)."""
    now = versions_now()
    return {
        name: (before, now[name])
        for name, before in contents.versions.items()
        if name in now and before != now[name]
    }


def _has_index(folder: Path) -> bool:
    """Return whether a folder is a cache; refuse one that holds something else. ``OSError`` where it is unreadable."""
    try:
        folder.stat()  # not `exists`: a folder that may not be asked about is told, and not made anew
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not is_folder(folder):
        raise CheckpointError(f"teacher.cache_folder: {folder} is a file; name a folder")
    names = sorted(path.name for path in folder.iterdir())
    foreign = [name for name in names if not name.startswith(".")]
    if INDEX in names or is_file(folder / INDEX):  # asked again: another process may have begun it meanwhile
        return True
    if foreign:
        raise CheckpointError(
            f"teacher.cache_folder: {folder} holds {foreign[0]} but no {INDEX}, so it is no teacher's cache; name an "
            "empty folder, or one that is not there"
        )
    return False


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        with cache_folder_errors(f"{folder / INDEX} cannot be read", _READABLE):
            return read_json(folder / INDEX)
    except CheckpointError as error:
        if isinstance(error.__cause__, OSError):
            raise
        cause = f": {error.__cause__}" if error.__cause__ else ""
        raise _damaged(folder, f"it holds no JSON object{cause}") from error


def _parsed(folder: Path, record: Mapping[str, Any]) -> CacheContents:
    try:
        return CacheContents(
            dict(record.get("versions", {})),
            _entries(record["whole"]),
            _entries(record["filling"]),
            int(record["views"]),
        )
    except KeyError as error:
        raise _damaged(folder, f"it has no {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise _damaged(folder, str(error)) from error


def _entries(record: Mapping[str, Any]) -> tuple[EntryShapes, ...]:
    return tuple(
        EntryShapes(name, tuple(tuple(map(int, one)) for one in shapes)) for name, shapes in record.items()
    )


def _damaged(folder: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"teacher.cache_folder: {folder / INDEX} is damaged ({reason}); remove the folder, and the cache is made again"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if is_file(path) else 0


__all__ = [
    "INDEX",
    "CacheContents",
    "changed_versions",
    "empty_contents",
    "entry_files",
    "read_contents",
    "versions_now",
    "write_contents",
]
