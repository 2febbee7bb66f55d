"""Writes a cache's arrays, view by view, so that a kill at any moment loses one view at most.

Each array is written aside and renamed when it is whole; cache.json, which alone says what counts, is written last.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from torch import Tensor

from kdcam.errors import CheckpointError
from kdcam.teacher_cache.contents import ArrayFile, Contents, Shapes, array_files, write_contents

_ASIDE = ".partial"


class Filling:
    """The files of entries that are being written; a context manager that opens and closes them.

    Attributes:
        views: Views that are whole: where to go on.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any], contents: Contents, shapes: Shapes) -> None:
        """Go on with the same entries where ``contents`` tells of them, or begin; the caller holds the lock."""
        self._folder, self._key, self._shapes, self._whole = folder, key, shapes, contents.whole
        self._arrays = list(array_files(folder, key, shapes))
        self._files: list[BinaryIO] = []
        # Order is compared, too: it is the order of what is written.
        same = list(contents.filling.items()) == list(shapes.items())
        held = all(_held(array) >= array.size(contents.views) for array in self._arrays)
        self.views = contents.views if same and held else 0

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be written."""
        return sum(array.size() - array.size(self.views) for array in self._arrays)

    def __enter__(self) -> Self:
        self._keep(Contents(self._whole, self._shapes, self.views))
        with _telling(self._folder):
            for leftover in self._folder.glob(f".*{_ASIDE}"):
                if leftover not in map(_aside, self._arrays):
                    leftover.unlink()
            with ExitStack() as opened:
                self._files = [opened.enter_context(_opened(array)) for array in self._arrays]
                for file, array in zip(self._files, self._arrays, strict=True):
                    _go_to(file, array, self.views)
                opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files:
            with suppress(
                OSError
            ):  # what is buffered of a view that is done again may not fit on a full disk
                file.close()

    def append(self, outputs: Sequence[Tensor]) -> None:
        """Write the next images' outputs (N, ...), fp16 on the CPU, one an array in the order of the entries."""
        with _telling(self._folder):
            for file, tensor in zip(self._files, outputs, strict=True):
                file.write(tensor.contiguous().numpy().data)

    def end_view(self) -> None:
        """Make sure that a view is on the disk, so that it need not be done again."""
        with _telling(self._folder):
            for file in self._files:
                file.flush()
                os.fsync(file.fileno())
        self.views += 1
        self._keep(Contents(self._whole, self._shapes, self.views))

    def finish(self) -> None:
        """Give all files their names; from now on they count."""
        for array, file in zip(self._arrays, self._files, strict=True):
            with _telling(self._folder):
                file.close()
                _aside(array).replace(array.path)
        self._keep(Contents(self._whole | self._shapes, {}, 0))

    def _keep(self, contents: Contents) -> None:
        write_contents(self._folder, self._key, contents)


def _opened(array: ArrayFile) -> BinaryIO:
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
    return aside.stat().st_size if aside.is_file() else 0


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """Tell in a sentence that the system refuses to write."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"teacher.cache_folder: {folder}: the teacher's outputs cannot be written ({error.strerror or error}); "
            'free some space, name another folder, or set teacher.cache = "none"'
        ) from error


__all__ = ["Filling"]
