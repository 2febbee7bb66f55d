"""The standard streams of the command line, none of whose failures is a traceback.

A result that cannot be written to stdout is an error. A message that cannot be written to stderr is lost, and the work
goes on. Characters that a stream's encoding lacks become escapes.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from kdcam.errors import KdcamError


class OutputError(KdcamError):
    """A result cannot be written to stdout."""


class ReaderGone(Exception):
    """Nobody reads stdout any more, as after ``| head -1``."""


class Stream:
    """A text stream that writes what its encoding has not as escapes; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text and return how many characters it has."""
        # typer writes b"" and "" to ask whether a stream takes bytes or text, and tells nobody of other failures.
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes text, not {type(text).__name__}")
        try:
            if text:
                self._stream.write(encodable(text, self._stream.encoding))
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._lose(error)

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return not self._stream.closed and self._stream.isatty()

    def _lose(self, error: OSError | ValueError) -> None:
        # What is still in the buffer would fail again as Python ends, in words of its own.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        self.lose(error)

    def lose(self, error: OSError | ValueError) -> None:
        """Take that a text cannot be written: it is lost."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ResultStream(Stream):
    """A stream of results, which must not be lost unnoticed."""

    def lose(self, error: OSError | ValueError) -> None:
        """Raise ``ReaderGone`` or ``OutputError``."""
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise ReaderGone from error
        reason = error.strerror if isinstance(error, OSError) else "it is closed"
        raise OutputError(f"stdout: the result cannot be written ({reason})") from error


def encodable(text: str, encoding: str | None) -> str:
    """Return a text with escapes such as ``\\xe9`` in the place of what an encoding has not; None: UTF-8."""
    name = encoding or "utf-8"
    try:
        text.encode(name)
    except UnicodeEncodeError:
        return text.encode(name, "backslashreplace").decode(name)
    return text


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Let stdout and stderr be a `ResultStream` and a `Stream` for the work inside."""
    _hold_standard_descriptors()
    before = sys.stdout, sys.stderr
    # Python has none where the caller closed it (``>&-``).
    out, err = before[0] or _closed_stream(), before[1] or _closed_stream()
    sys.stdout, sys.stderr = cast(TextIO, ResultStream(out)), cast(TextIO, Stream(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _closed_stream() -> TextIO:
    stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 (it is closed at once; pathlib is slow)
    stream.close()
    return stream


def _hold_standard_descriptors() -> None:
    """Open what is closed of 0, 1 and 2: the next file would get its number, and what is printed would go there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the smallest free number


__all__ = ["OutputError", "ReaderGone", "ResultStream", "Stream", "encodable", "guarded_streams"]
