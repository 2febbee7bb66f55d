"""Ctrl-C while a run trains: the first asks for a stop that keeps the state, the second stops at once."""

import os
import signal
import threading
from types import FrameType
from typing import Self

_NOTICE = b"\nstopping after this step; Ctrl-C again stops at once\n"


class Stopper:
    """Takes Ctrl-C from the moment it is entered; a context manager.

    Until the work has asked for the first time whether to stop (it is still reading data), Ctrl-C is an
    ordinary ``KeyboardInterrupt``: there is no state to keep yet.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.is_heeded = False  # the work looks at `asked` now and then
        self.is_asked = False

    def __enter__(self) -> Self:
        # Only a main thread may take signals; elsewhere (a notebook's worker) Ctrl-C stays what it was.
        self.takes = threading.current_thread() is threading.main_thread()
        if self.takes:
            self.before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        if self.takes:
            signal.signal(signal.SIGINT, self.before)

    def asked(self) -> bool:
        """Return whether Ctrl-C was pressed."""
        self.is_heeded = True
        return self.is_asked

    def _take(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if os.getpid() != self.process:
            # A forked data worker: the terminal signals the whole group; the main process needs the batch.
            return
        if self.is_asked or not self.is_heeded:
            raise KeyboardInterrupt
        self.is_asked = True
        os.write(2, _NOTICE)  # a handler may not touch Python's buffered streams: it can interrupt a write


__all__ = ["Stopper"]
