"""A cache's folder: cache.json says what counts, .npy files hold arrays (V, N, ...), filled view by view."""

import io
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.files.json_files import read_json, write_json
from kdcam.files.npy_files import open_npy
from kdcam.files.paths import is_file, is_folder, shown
from kdcam.runtime.machine import package_versions
from kdcam.settings.messages import reason_text
from kdcam.training.teachers.cache_key import CacheKey, key_difference

Shape = tuple[int, ...]

INDEX = "cache.json"
SEVERAL = frozenset({"stages", "published_stages"})
"""The entries that have an array a map; each of the others has one."""

_ASIDE = ".partial"  # the end of the name of a file that is not whole yet
_BYTES = 2  # of a number in fp16
_NOTED = ("kdcam", "torch")  # packages that draw the views
_READABLE = "make it readable, or name another folder"
_WRITABLE = 'free some space, name another folder, or set teacher.cache = "none"'


class EntryShapes(NamedTuple):
    """An entry of a cache with the shape of each of its arrays for one image; the stages have an array each."""

    name: str  # which its files begin with
    shapes: tuple[Shape, ...]


class ArrayFile(NamedTuple):
    """Where an array lies, and its whole shape."""

    path: Path
    shape: Shape  # (V, N, ...)

    @property
    def header(self) -> bytes:
        """The bytes before its numbers, as numpy writes them."""
        return _header(self.shape)

    def size(self, views: int | None = None) -> int:
        """The bytes of the file when it holds so many views; None: all."""
        return array_bytes(self.shape, views)


def array_bytes(shape: Shape, views: int | None = None) -> int:
    """Return the bytes of the file of an array (V, N, ...) when it holds so many views; None: all."""
    held = shape[0] if views is None else views
    return len(_header(shape)) + _BYTES * held * math.prod(shape[1:])


def array_files(
    folder: Path, entries: Iterable[EntryShapes], *, views: int, images: int
) -> Iterator[ArrayFile]:
    """Yield the files of entries, in order."""
    for entry in entries:
        for name, shape in zip(_names(entry), entry.shapes, strict=True):
            yield ArrayFile(folder / name, (views, images, *shape))


def open_arrays(folder: Path, entry: EntryShapes, *, views: int, images: int) -> tuple[Tensor, ...]:
    """Return an entry's arrays as fp16 tensors (V, N, ...) that read the files where they are asked.

    Raises ``CheckpointError`` for a file that cannot be read or holds something else.
    """
    return tuple(map(_opened, array_files(folder, [entry], views=views, images=images)))


def _opened(file: ArrayFile) -> Tensor:
    # "c", not "r": torch warns of memory that may not be written to, which nothing here does.
    array = open_npy(
        file.path,
        error=CheckpointError,
        place=f"teacher.cache_folder: {shown(file.path)}",
        way_out="remove it, and it is made again",
        mode="c",
    )
    if (array.dtype, array.shape) != (np.dtype("<f2"), file.shape):
        raise CheckpointError(
            f"teacher.cache_folder: {file.path} holds {array.dtype} {array.shape}, expected float16 {file.shape}; "
            "remove it, and it is made again"
        )
    return torch.from_numpy(array)


def _names(entry: EntryShapes) -> list[str]:
    if entry.name not in SEVERAL:
        return [f"{entry.name}.npy"]
    return [f"{entry.name}-{number}.npy" for number in range(len(entry.shapes))]


def _header(shape: Shape) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return file.getvalue()


@contextmanager
def cache_folder_errors(what: str, way_out: str) -> Iterator[None]:
    """Say in a sentence that the system refuses something: ``what`` (why); ``way_out``.

    Raises ``CheckpointError`` in the place of ``OSError``, and of a ``CheckpointError`` that one caused and that speaks
    of a run's folder.
    """
    try:
        yield
    except (OSError, CheckpointError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise CheckpointError(f"teacher.cache_folder: {what} ({reason_text(cause)}); {way_out}") from cause


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


def _entry_files(folder: Path, key: CacheKey, entries: Iterable[EntryShapes]) -> Iterator[ArrayFile]:
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
            if all(_size(file.path) == file.size() for file in _entry_files(folder, key, [entry]))
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
    with cache_folder_errors(f"{folder / INDEX} cannot be written", _WRITABLE):
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


class CacheWriter:
    """Writes the files of entries, view by view, so that a kill costs little; a context manager that opens them.

    Each array is written aside. cache.json, which alone says what counts, is written at the start, after each view and
    at the end, when all arrays have been renamed. A process that is killed loses the view it was in, and the next one
    that wants the same entries goes on after the views before it. All views are made again by one that wants other
    entries, and after a kill in the short time between the first rename and the last cache.json. What counted before
    stays in any case.

    Attributes:
        views_done: Views that are whole: where to go on.
    """

    def __init__(
        self, folder: Path, key: CacheKey, contents: CacheContents, entries: tuple[EntryShapes, ...]
    ) -> None:
        """Go on with the same entries where ``contents`` tells of them, or begin; the caller holds the lock."""
        self._folder, self._key, self._contents, self._entries = folder, key, contents, entries
        self._arrays = list(_entry_files(folder, key, entries))
        self._files: list[BinaryIO] = []
        same = contents.filling == entries  # in their order, too: it is the order of what is written
        with self._write_errors():
            held = all(_held(array) >= array.size(contents.views_done) for array in self._arrays)
        self.views_done = contents.views_done if same and held else 0

    @property
    def whole_bytes(self) -> int:
        """Bytes of all files when they are whole."""
        return sum(array.size() for array in self._arrays)

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be written."""
        return self.whole_bytes - sum(array.size(self.views_done) for array in self._arrays)

    @property
    def torn_bytes(self) -> int:
        """Bytes that a process left aside when it ended, and that are given back before anything is written."""
        with self._write_errors():
            torn = sum(max(0, _held(array) - array.size(self.views_done)) for array in self._arrays)
            return torn + sum(leftover.stat().st_size for leftover in self._leftovers())

    def __enter__(self) -> Self:
        self._write_progress()
        with self._write_errors():
            for leftover in self._leftovers():
                leftover.unlink()
            with ExitStack() as opened:
                self._files = [opened.enter_context(_opened_aside(array)) for array in self._arrays]
                for file, array in zip(self._files, self._arrays, strict=True):
                    _go_to(file, array, self.views_done)
                opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            # What is buffered of a view that is done again may not fit on a full disk.
            with suppress(OSError):
                file.close()

    def append(self, outputs: Sequence[Tensor]) -> None:
        """Write the next images' outputs (N, ...), fp16 on the CPU, one an array in the order of the entries."""
        with self._write_errors():
            for file, tensor in zip(self._files, outputs, strict=True):
                file.write(tensor.contiguous().numpy().data)

    def end_view(self) -> None:
        """Make sure that a view is on the disk, so that it need not be done again."""
        with self._write_errors():
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())
        self.views_done += 1
        self._write_progress()

    def finish(self) -> None:
        """Give all files their names; from now on they count."""
        for array, file in zip(self._arrays, self._files, strict=True):
            with self._write_errors():
                file.close()
                _aside(array).replace(array.path)
        whole = self._contents.whole + self._entries
        write_contents(self._folder, self._key, CacheContents(self._contents.versions, whole))

    def _write_progress(self) -> None:
        running = self._contents._replace(filling=self._entries, views_done=self.views_done)
        write_contents(self._folder, self._key, running)

    def _leftovers(self) -> list[Path]:
        """Return the files aside of other entries than these."""
        own = set(map(_aside, self._arrays))
        return [path for path in self._folder.glob(f".*{_ASIDE}") if path not in own]

    def _write_errors(self) -> AbstractContextManager[None]:
        return cache_folder_errors(f"{self._folder}: the teacher's outputs cannot be written", _WRITABLE)


def _opened_aside(array: ArrayFile) -> BinaryIO:
    """Return an array's file aside, made if it is not there."""
    descriptor = os.open(_aside(array), os.O_CREAT | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o666)
    return os.fdopen(descriptor, "r+b")


def _go_to(file: BinaryIO, array: ArrayFile, views: int) -> None:
    """Leave in an array's file its header and the views that are whole, and go to its end."""
    file.write(array.header)
    file.truncate(array.size(views))
    file.seek(0, os.SEEK_END)


def _aside(array: ArrayFile) -> Path:
    return array.path.with_name(f".{array.path.name}{_ASIDE}")


def _held(array: ArrayFile) -> int:
    aside = _aside(array)
    return aside.stat().st_size if is_file(aside) else 0


__all__ = [
    "INDEX",
    "SEVERAL",
    "ArrayFile",
    "CacheContents",
    "CacheWriter",
    "EntryShapes",
    "Shape",
    "array_bytes",
    "array_files",
    "cache_folder_errors",
    "changed_versions",
    "empty_contents",
    "open_arrays",
    "read_contents",
    "versions_now",
    "write_contents",
]
