"""Workers, each of which does one run after another, and how their parent assigns, watches and reports the runs."""

import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from kdcam.comparison.workers.local_process import RunTask, Worker, WorkerEvent
from kdcam.errors import CheckpointError, FolderInUseError, Interrupted
from kdcam.files.folder_lock import FolderLock
from kdcam.files.paths import is_folder
from kdcam.runtime.progress import Progress
from kdcam.scores.main_scores import MAIN_SCORES

_ALL_RUNS = "all runs"
_TRAINING = ""
_EPOCH_SECONDS = 60.0  # between two lines on one run's epochs
_POLL_SECONDS = 0.2  # between two checks whether to stop
# Before a folder that another process writes to is tried again.
_RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


# Why workers are fresh interpreters: docs/decisions/015.
class WorkerPool:
    """Workers and the tasks that wait for them.

    Args:
        tasks: What to do.
        devices: The device of each worker; as many workers as devices.
        threads: How many threads each may use.
        progress: Who watches; its ``should_stop`` ends the work.
        done: How many runs beside the tasks were done before, for the count.
        failed: How many beside the tasks cannot be made, for the count.
        on_end: Called after a run is done or failed with the reasons of those that failed so far, by name.
    """

    def __init__(
        self,
        tasks: Sequence[RunTask],
        *,
        devices: Sequence[str],
        threads: int,
        progress: Progress,
        done: int = 0,
        failed: int = 0,
        on_end: Callable[[Mapping[str, str]], None] = lambda _: None,
    ) -> None:
        self.waiting = deque((task, 0.0) for task in tasks)  # and the time from which on it may be tried
        self.devices, self.threads = devices, threads
        self.progress, self.on_end = progress, on_end
        self.board = ProgressBoard(progress, done=done, failed=failed, total=done + failed + len(tasks))
        self.events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
        self.workers: dict[int, Worker] = {}  # by their device's index
        self.failed: dict[str, str] = {}
        self.busy: Counter[str] = Counter()  # how often a run's folder was found busy
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
                self._assign_or_stop()
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

    def _assign_or_stop(self) -> None:
        if not self.is_stopping and self.progress.should_stop():
            self.is_stopping = True
            for worker in self.workers.values():
                worker.stop()
        if not self.is_stopping:
            for slot, device in enumerate(self.devices):
                self._assign_next(slot, device)

    def _assign_next(self, slot: int, device: str) -> None:
        worker = self.workers.get(slot)
        if worker is not None and worker.task is not None:
            return
        task = self._take_task()
        if task is None:
            return
        if worker is None:
            worker = self.workers[slot] = Worker(self.events, device=device, threads=self.threads)
        worker.assign(task)

    def _take_task(self) -> RunTask | None:
        """Take the first task that may be tried now; those whose folder is busy are put off, which costs no worker."""
        now = time.monotonic()
        for pair in [pair for pair in self.waiting if pair[1] <= now]:
            self.waiting.remove(pair)
            task = pair[0]
            text = _busy_text(Path(task.output))
            if text is None:
                return task
            self._put_off(task, text)
        return None

    def _put_off(self, task: RunTask, text: str) -> None:
        self.board.message(task.name, f"{text.partition(';')[0]}; this run waits for it")
        seconds = _RETRY_SECONDS[min(self.busy[task.name], len(_RETRY_SECONDS) - 1)]
        self.busy[task.name] += 1
        self.waiting.append((task, time.monotonic() + seconds))

    def _take_event(self) -> None:
        try:
            worker, document = self.events.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        if document is None:
            self._forget(worker)
            if worker.task is not None:
                self._fail(worker.task.name, worker.end_text())
                worker.task = None
            return
        assert worker.task is not None
        self._handle(worker, worker.task, document)

    def _handle(self, worker: Worker, task: RunTask, document: dict[str, Any]) -> None:
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

    def _end(self, task: RunTask, kind: str, document: dict[str, Any]) -> None:
        if kind == "failed":
            self._fail(task.name, document["reason"])
            return
        self.board.end(task.name, "done" if kind == "done" else "put off")
        if kind == "done":
            if not document["was_finished"]:
                scores = main_score_text(document["scores"])
                self.progress.message(f"{task.name}: done, {scores} ({self.board.count_text()})")
            self.on_end(self.failed)
        elif kind == "busy":
            self._put_off(task, document["text"])
        else:
            self.stopped.append(task.name)

    def _fail(self, name: str, reason: str) -> None:
        self.failed[name] = " ".join(reason.split())
        self.board.end(name, "failed")
        self.progress.warning(f"{name}: failed: {self.failed[name]}")
        self.on_end(self.failed)

    def _forget(self, worker: Worker) -> None:
        for slot, one in list(self.workers.items()):
            if one is worker:
                del self.workers[slot]
                worker.close()


def _busy_text(folder: Path) -> str | None:
    """Return in words that another process writes to a run folder; None where none does, or only a try can tell."""
    if not is_folder(folder):
        return None
    with suppress(CheckpointError):
        try:
            FolderLock(folder).release()
        except FolderInUseError as error:
            return str(error)
    return None


class ProgressBoard:
    """Hands what the runs tell to one watcher: their bars beside each other, equal lines once."""

    def __init__(self, progress: Progress, *, done: int, total: int, failed: int = 0) -> None:
        self.progress = progress
        self.done, self.failed, self.total = done, failed, total
        self.shown_lines: set[str] = set()
        self.bars: dict[str, dict[str, int]] = {}  # run -> piece of work -> its total, while it is shown
        self.epoch_told: dict[str, float] = {}

    def begin(self) -> None:
        """Show how many of the runs are over."""
        self.progress.advance(_ALL_RUNS, self.done + self.failed, self.total)

    def count_text(self, word: str = "") -> str:
        """Return how many runs are done, and how many failed where any did: ``2 of 4 runs, 1 failed``."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} runs{word}{failed}"

    def message(self, name: str, text: str) -> None:
        """Tell a line of a run; one that another run told before is left out."""
        if text not in self.shown_lines:
            self.shown_lines.add(text)
            self.progress.message(f"{name}: {text}")

    def warning(self, name: str, text: str) -> None:
        """Tell a warning of a run; one that another run told before is left out."""
        if text not in self.shown_lines:
            self.shown_lines.add(text)
            self.progress.warning(f"{name}: {text}")

    def move(self, name: str, done: int, total: int, task: str = _TRAINING) -> None:
        """Show how far a run, or another piece of work in it, is."""
        shown = self.bars.setdefault(name, {})
        shown[task] = total
        if done >= total:
            del shown[task]
        self.progress.advance(f"{name}: {task}" if task else name, done, total)

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        """Tell an epoch's result, once a minute for each run: a sign of life where there are no bars."""
        now = time.monotonic()
        if now < self.epoch_told.setdefault(name, now) + _EPOCH_SECONDS:
            return
        self.epoch_told[name] = now
        validation = record["validation"]
        scores = f", validation {main_score_text(validation)}" if validation else ""
        self.progress.message(
            f"{name}: epoch {record['epoch']} of {record['epochs']}{scores}, "
            f"{record['images_per_second']:,.0f} images/s, {record['seconds_left'] / 60:.0f} min left"
        )

    def end(self, name: str, end: Literal["done", "failed", "put off"]) -> None:
        """Take a run's bars away, and count it where it is over."""
        for task, total in dict(self.bars.get(name, {})).items():
            self.move(name, total, total, task)
        self.bars.pop(name, None)
        self.epoch_told.pop(name, None)
        self.done += end == "done"
        self.failed += end == "failed"
        self.begin()


def main_score_text(scores: Mapping[str, float]) -> str:
    """Return the main score of a run with its key: ``acc1 93.10%``, or ``mean_ap`` for several labels."""
    name = next((one for one in MAIN_SCORES.values() if one in scores), None)
    return "no score" if name is None else f"{name} {scores[name]:.2%}"


__all__ = ["ProgressBoard", "WorkerPool", "main_score_text"]
