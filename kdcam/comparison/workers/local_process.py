"""A worker's process as its parent has it: a Python of its own that is given runs and listened to."""

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What asks a comparison to stop: the parent takes it, and a worker only once it can keep its state."""

# A fresh interpreter, not a process of `multiprocessing`: that one runs the caller's script again, may have no data
# loaders of its own, and hands over pickles.
_START_CODE = (
    "import json, sys; path, *settings = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from kdcam.comparison.workers.worker_main import serve; serve(*settings)"
)


class RunTask(NamedTuple):
    """One run to be done by a worker."""

    name: str
    recipe: Mapping[str, Any]
    output: str
    teacher: Mapping[str, Any] | None  # against which agreement is measured after the run
    command: Sequence[str]  # the command line, for the run's record
    teacher_flags: Sequence[str] = ()  # what --teacher said, so that errors about it name the flag


class Worker:
    """A worker process, its pipes, and the task that it is at."""

    def __init__(self, events: "queue.SimpleQueue[WorkerEvent]", *, device: str, threads: int) -> None:
        settings = json.dumps([sys.path, threads, device])
        with _signals_held():
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START_CODE, settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        self.task: RunTask | None = None
        self.listener = threading.Thread(target=self._listen, args=(events,), daemon=True)
        self.listener.start()

    def assign(self, task: RunTask) -> None:
        """Give it a task."""
        self.task = task
        self._send({"kind": "do", **task._asdict()})

    def stop(self) -> None:
        """Ask it to end its run at the next step."""
        self._send({"kind": "stop"})

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Let it end, and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.listener.join()
        self.process.stdout.close()

    def end_text(self) -> str:
        """Return how the process ended, in words, once it has."""
        code = self.process.wait()
        if code >= 0:
            return f"its process ended with exit code {code} before the run did; stderr may tell why"
        memory = ", perhaps for lack of memory" if code == -9 else ""
        return f"its process was ended by signal {-code} ({_signal_name(-code)}){memory}; the same command tries again"

    def _send(self, document: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended: its listener tells
            self.process.stdin.write((json.dumps(document) + "\n").encode())
            self.process.stdin.flush()

    def _listen(self, events: "queue.SimpleQueue[WorkerEvent]") -> None:
        assert self.process.stdout is not None
        try:
            for line in self.process.stdout:
                document = _parsed(line)
                if document is not None:
                    events.put(WorkerEvent(self, document))
        finally:  # whatever is wrong: without the end the parent would wait for ever
            events.put(WorkerEvent(self, None))


class WorkerEvent(NamedTuple):
    """What a worker tells."""

    worker: Worker
    document: dict[str, Any] | None  # None: its process has ended


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return what a worker says in a line; None of one that is torn by its end, or that another program printed."""
    try:
        document = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return document if isinstance(document, dict) and "kind" in document else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


@contextmanager
def _signals_held() -> Iterator[None]:
    """Start processes that no Ctrl-C ends, not even while they start: a blocked signal stays blocked in them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


__all__ = ["STOP_SIGNALS", "RunTask", "Worker", "WorkerEvent"]
