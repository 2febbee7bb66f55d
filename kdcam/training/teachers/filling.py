"""Writes a cache's arrays, view by view, so that a kill costs little.

Each array is written aside. cache.json, which alone says what counts, is written at the start, after each view and at
the end, when all arrays have been renamed. A process that is killed loses the view it was in, and the next one that
wants the same entries goes on after the views before it. All views are made again by one that wants other entries, and
after a kill in the short time between the first rename and the last cache.json. What counted before stays in any case.
"""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from torch import Tensor

from kdcam.files.folders import cache_folder_errors
from kdcam.files.paths import is_file
from kdcam.training.teachers.cache_folder import ArrayFile, EntryShapes
from kdcam.training.teachers.cache_key import CacheKey
from kdcam.training.teachers.contents import CacheContents, entry_files, write_contents

_ASIDE = ".partial"


class CacheWriter:
    """The files of entries that are being written; a context manager that opens and closes them.

    Attributes:
        views_done: Views that are whole: where to go on.
    """

    def __init__(
        self, folder: Path, key: CacheKey, contents: CacheContents, entries: tuple[EntryShapes, ...]
    ) -> None:
        """Go on with the same entries where ``contents`` tells of them, or begin; the caller holds the lock."""
        self._folder, self._key, self._contents, self._entries = folder, key, contents, entries
        self._arrays = list(entry_files(folder, key, entries))
        self._files: list[BinaryIO] = []
        same = contents.filling == entries  # in their order, too: it is the order of what is written
        with self._telling():
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
        with self._telling():
            torn = sum(max(0, _held(array) - array.size(self.views_done)) for array in self._arrays)
            return torn + sum(leftover.stat().st_size for leftover in self._leftovers())

    def __enter__(self) -> Self:
        self._keep()
        with self._telling():
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
        with self._telling():
            for file, tensor in zip(self._files, outputs, strict=True):
                file.write(tensor.contiguous().numpy().data)

    def end_view(self) -> None:
        """Make sure that a view is on the disk, so that it need not be done again."""
        with self._telling():
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())
        self.views_done += 1
        self._keep()

    def finish(self) -> None:
        """Give all files their names; from now on they count."""
        for array, file in zip(self._arrays, self._files, strict=True):
            with self._telling():
                file.close()
                _aside(array).replace(array.path)
        whole = self._contents.whole + self._entries
        write_contents(self._folder, self._key, CacheContents(self._contents.versions, whole))

    def _keep(self) -> None:
        running = self._contents._replace(filling=self._entries, views_done=self.views_done)
        write_contents(self._folder, self._key, running)

    def _leftovers(self) -> list[Path]:
        """Return the files aside of other entries than these."""
        own = set(map(_aside, self._arrays))
        return [path for path in self._folder.glob(f".*{_ASIDE}") if path not in own]

    def _telling(self) -> AbstractContextManager[None]:
        way_out = 'free some space, name another folder, or set teacher.cache = "none"'
        return cache_folder_errors(f"{self._folder}: the teacher's outputs cannot be written", way_out)


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


__all__ = ["CacheWriter"]
