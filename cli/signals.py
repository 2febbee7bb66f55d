"""Ctrl-C, SIGTERM and SIGHUP: work that keeps its state is asked to stop, other work ends at once, both in one line.

A scheduler, `timeout` or a closed terminal ends a run as Ctrl-C does: its state is kept.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

INTERRUPTED = 130
SAME_SECONDS = 1.0
"""A signal this soon after another one is the same wish: keys bounce, fingers hammer, and a scheduler sends two."""

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


# Why a second signal within a second is the same wish: docs/decisions/026.
class Stopper:
    """Takes the signals from the moment it is entered; a context manager.

    Until the work has asked for the first time whether to stop (it is still reading data), a signal is an
    ordinary ``KeyboardInterrupt``: there is no state to keep yet. A second one, too, ends the work at once, and a third
    the process.

    Attributes:
        number: Of the first signal; None: there was none.
        is_heeded: The work looks at `asked` now and then.
        is_raised: A signal has ended the work at once.
        is_over: The process is about to end; signals do nothing any more.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.number: int | None = None
        self.is_heeded = self.is_raised = self.is_over = False
        self._last = -SAME_SECONDS
        self._before: dict[int, object] = {}

    def take(self) -> None:
        """Take the signals."""
        for number in SIGNALS:
            before = signal.getsignal(number)
            # nohup has SIGHUP ignored, and so it stays.
            if number == signal.SIGINT or before is not signal.SIG_IGN:
                with suppress(ValueError):  # only a main thread may; in others signals stay what they were
                    signal.signal(number, self._take)
                    self._before[number] = before

    def __enter__(self) -> "Stopper":
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        if self.number is not None:
            return  # the process is on its way out, and the next signal must not end it otherwise
        for number, before in self._before.items():
            signal.signal(number, before)  # type: ignore[arg-type]  # what getsignal gave

    def end(self) -> None:
        """Let signals do nothing any more, as the process is about to end.

        They are ignored by the system: Python puts its own handlers away before it has ended.
        """
        self.is_over = True
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def asked(self) -> bool:
        """Return whether a signal asked to stop."""
        self.is_heeded = True
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """The exit code of a process that a signal stopped: 128 and its number, as shells have it."""
        return INTERRUPTED if self.number is None else 128 + self.number

    def _take(self, number: int, frame: FrameType | None) -> None:
        del frame
        # A forked data worker: the terminal signals the whole group; the main process needs the batch.
        if self.is_over or os.getpid() != self.process:
            return
        now = time.monotonic()
        if self.number is not None and now - self._last < SAME_SECONDS:
            return
        self._last = now
        if self.is_raised:
            os._exit(self.exit_code)
        is_first, self.number = self.number is None, self.number or number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if is_first and self.is_heeded:
            _tell(f"stopping after this step ({name}); Ctrl-C again, a second later, stops at once")
            return
        self.is_raised = True
        _tell(f"kdcam: stopped {'' if is_first else 'at once '}by {name}")
        raise KeyboardInterrupt


@contextmanager
def stopping() -> Iterator[Stopper]:
    """Yield the stopper that takes this process's signals, or one for the work inside where there is none."""
    owner = getattr(signal.getsignal(signal.SIGINT), "__self__", None)
    if not isinstance(owner, Stopper) or owner.is_over:
        with Stopper() as stopper:
            yield stopper
        return
    try:
        yield owner
    finally:
        owner.is_heeded = False


def _tell(text: str) -> None:
    """Write a line to stderr; a handler may not touch Python's buffered streams: it can interrupt a write."""
    with suppress(OSError):
        start = "\n" if os.isatty(2) else ""  # a terminal shows ^C, or a bar
        os.write(2, f"{start}{text}\n".encode())


__all__ = ["INTERRUPTED", "SAME_SECONDS", "SIGNALS", "Stopper", "stopping"]
