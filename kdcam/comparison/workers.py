"""Worker processes, each a Python of its own that does one run after another, and what their parent does meanwhile."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from kdcam.comparison.board import Board, score_text
from kdcam.errors import Interrupted
from kdcam.progress import Progress

# A fresh interpreter, not a process of `multiprocessing`: that one runs the caller's script again, may have no data
# loaders of its own, and hands over pickles.
_START = (
    "import json, sys; path, *settings = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from kdcam.comparison.worker import serve; serve(*settings)"
)
_LOOK_SECONDS = 0.2  # between two looks at whether to stop
_BUSY_SECONDS = 1.0  # before a run in a folder that another process writes to is tried again


class Task(NamedTuple):
    """One run to be done by a worker."""

    name: str
    recipe: Mapping[str, Any]
    output: str
    teacher: Mapping[str, Any] | None  # against which agreement is measured after the run
    command: Sequence[str]  # the command line, for the run's record
    teacher_flags: Sequence[str] = ()  # what --teacher said, so that errors about it name the flag


class Worker:
    """A worker process, its pipes, and the task that it is at."""

    def __init__(self, events: "queue.SimpleQueue[Event]", *, device: str, threads: int) -> None:
        settings = json.dumps([sys.path, threads, device])
        with _interrupts_held():
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _START, settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        self.task: Task | None = None
        self.listener = threading.Thread(target=self._listen, args=(events,), daemon=True)
        self.listener.start()

    def assign(self, task: Task) -> None:
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

    def _listen(self, events: "queue.SimpleQueue[Event]") -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # else torn by the process's end
                events.put(Event(self, json.loads(line)))
        events.put(Event(self, None))


class Event(NamedTuple):
    """What a worker tells."""

    worker: Worker
    document: dict[str, Any] | None  # None: its process has ended


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes that no Ctrl-C reaches, not even while they start: a blocked signal stays blocked in them."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Crew:
    """Workers and the tasks that wait for them.

    Args:
        tasks: What to do.
        devices: The device of each worker; as many workers as devices.
        threads: How many threads each may use.
        progress: Who watches; its ``should_stop`` ends the work.
        done: How many runs beside the tasks were done before, for the count.
        failed: How many beside the tasks cannot be made, for the count.
        on_done: Called with a task's name after it is done.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        devices: Sequence[str],
        threads: int,
        progress: Progress,
        done: int = 0,
        failed: int = 0,
        on_done: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.waiting = deque((task, 0.0) for task in tasks)  # and the time from which on it may be tried
        self.devices, self.threads = devices, threads
        self.progress, self.on_done = progress, on_done
        self.board = Board(progress, done=done, failed=failed, total=done + failed + len(tasks))
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.workers: dict[int, Worker] = {}  # by their place among the devices
        self.failed: dict[str, str] = {}
        self.stopped: list[str] = []
        self.is_stopping = False

    def work(self) -> dict[str, str]:
        """Do the tasks and return the reasons of those that failed, by name.

        Raises ``Interrupted`` when the watcher asked to stop before all were done; the states of those under way are
        kept.
        """
        self.board.begin()
        try:
            while self._is_busy() or (self.waiting and not self.is_stopping):
                self._look()
                self._take_event()
        except BaseException:
            for worker in self.workers.values():
                worker.kill()
            raise
        for worker in self.workers.values():
            worker.close()
        if self.stopped or self.waiting:
            raise Interrupted(f"stopped with {self.board.count_text(' done')}")
        return self.failed

    def _is_busy(self) -> bool:
        return any(worker.task is not None for worker in self.workers.values())

    def _look(self) -> None:
        if not self.is_stopping and self.progress.should_stop():
            self.is_stopping = True
            for worker in self.workers.values():
                worker.stop()
        if not self.is_stopping:
            for place, device in enumerate(self.devices):
                self._fill(place, device)

    def _fill(self, place: int, device: str) -> None:
        worker = self.workers.get(place)
        if worker is not None and worker.task is not None:
            return
        now = time.monotonic()
        ready = next((pair for pair in self.waiting if pair[1] <= now), None)
        if ready is None:
            return
        self.waiting.remove(ready)
        if worker is None:
            worker = self.workers[place] = Worker(self.events, device=device, threads=self.threads)
        worker.assign(ready[0])

    def _take_event(self) -> None:
        try:
            worker, document = self.events.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            return
        if document is None:
            self._forget(worker)
            if worker.task is not None:
                self._fail(worker.task.name, worker.end_text())
                worker.task = None
            return
        assert worker.task is not None
        self._tell(worker, worker.task, document)

    def _tell(self, worker: Worker, task: Task, document: dict[str, Any]) -> None:
        kind = document.pop("kind")
        if kind == "message":
            self.board.message(task.name, **document)
        elif kind == "warning":
            self.board.warning(task.name, **document)
        elif kind in {"step", "advance"}:
            self.board.move(task.name, **document)
        elif kind == "epoch":
            self.board.epoch(task.name, **document)
        else:
            worker.task = None
            self._end(task, kind, document)
            if document.get("ends", False):
                self._forget(worker)

    def _end(self, task: Task, kind: str, document: dict[str, Any]) -> None:
        if kind == "failed":
            self._fail(task.name, document["reason"])
            return
        self.board.end(task.name, "done" if kind == "done" else "put off")
        if kind == "done":
            if not document["was_finished"]:
                scores = score_text(document["scores"])
                self.progress.message(f"{task.name}: done, {scores} ({self.board.count_text()})")
            self.on_done(task.name)
        elif kind == "busy":
            self.board.message(task.name, f"{document['text'].partition(';')[0]}; this run waits for it")
            self.waiting.append((task, time.monotonic() + _BUSY_SECONDS))
        else:
            self.stopped.append(task.name)

    def _fail(self, name: str, reason: str) -> None:
        self.failed[name] = " ".join(reason.split())
        self.board.end(name, "failed")
        self.progress.warning(f"{name}: failed: {self.failed[name]}")

    def _forget(self, worker: Worker) -> None:
        for place, one in list(self.workers.items()):
            if one is worker:
                del self.workers[place]
                worker.close()


__all__ = ["Crew", "Event", "Task", "Worker"]
