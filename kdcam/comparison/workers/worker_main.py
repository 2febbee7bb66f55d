"""A worker process of a comparison: does one run after another and tells its parent what becomes of each.

Parent and worker talk in JSON documents, one a line. The worker stops at its next step, its state kept, when the
parent asks for it and when the parent is gone, which it sees by the end of its input.
"""

import gc
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from kdcam.comparison.plan.grid import with_teacher_flag
from kdcam.comparison.workers.local_process import STOP_SIGNALS
from kdcam.errors import FolderInUseError, Interrupted, KdcamError, OutOfMemory
from kdcam.runtime.memory import keep_freed_memory, memory_text
from kdcam.runtime.progress import EpochRecord, StepRecord

_ADVANCE_SECONDS = 0.2  # between two reports of how far a piece of work is


class ParentChannel:
    """A worker's two pipes to its parent, taken over from its standard input and output.

    Attributes:
        tasks: What the parent asks for, in order; None when nothing more will come.
        stopping: Set when the work should end at the next safe point.
    """

    def __init__(self) -> None:
        self.tasks: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.stopping = threading.Event()
        self._incoming, self._outgoing = os.dup(0), os.dup(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)  # what a library prints must not be read as an event
        if sys.platform != "win32":
            # A forked data loader's worker that outlives this process would hide its end from the parent.
            os.register_at_fork(after_in_child=self._drop_in_child)
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, kind: str, **fields: Any) -> None:
        """Tell the parent something; where it is gone, ask the work to stop."""
        rest = memoryview((json.dumps({"kind": kind, **fields}) + "\n").encode())
        try:
            while rest:
                rest = rest[os.write(self._outgoing, rest) :]
        except BrokenPipeError:
            self.stopping.set()

    def _listen(self) -> None:
        begun = b""
        while data := os.read(self._incoming, 1 << 16):
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                document = json.loads(line)
                if document["kind"] == "stop":
                    self.stopping.set()
                else:
                    self.tasks.put(document)
        self.stopping.set()
        self.tasks.put(None)

    def _drop_in_child(self) -> None:
        os.close(self._incoming)
        os.close(self._outgoing)


class ChannelProgress:
    """A run's watcher that hands everything to the parent."""

    def __init__(self, channel: ParentChannel) -> None:
        self.channel = channel
        self.next_advance = 0.0

    def message(self, text: str) -> None:
        """Send a message."""
        self.channel.send("message", text=text)

    def warning(self, text: str) -> None:
        """Send a warning."""
        self.channel.send("warning", text=text)

    def step(self, record: StepRecord) -> None:
        """Send how many of the run's steps are done."""
        done = (record.epoch - 1) * record.steps + record.step
        self.channel.send("step", done=done, total=record.epochs * record.steps)

    def epoch(self, record: EpochRecord) -> None:
        """Send an epoch's record."""
        self.channel.send("epoch", record=record._asdict())

    def advance(self, task: str, done: int, total: int) -> None:
        """Send how far other work is, a few times a second."""
        if done >= total or time.monotonic() >= self.next_advance:
            self.next_advance = time.monotonic() + _ADVANCE_SECONDS
            self.channel.send("advance", task=task, done=done, total=total)

    def should_stop(self) -> bool:
        """Return whether the parent asked for a stop or is gone."""
        return self.channel.stopping.is_set()


def serve(threads: int, device: str) -> None:
    """Do what the parent asks for, until it asks for nothing more; the main function of a worker process.

    ``threads``: how many threads torch may use; it never uses more than it would by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent decides
    channel = ParentChannel()
    _stop_at_signals(channel)
    keep_freed_memory()
    import torch  # here: signals and the parent's requests are taken from the first moment on

    torch.set_num_threads(max(1, min(threads, torch.get_num_threads())))
    while (task := channel.tasks.get()) is not None:
        if not do_task(task, device, channel):
            return


def _stop_at_signals(channel: ParentChannel) -> None:
    """Let SIGTERM and SIGHUP end the run at its next step, its state kept: a scheduler may send them to all."""
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        if os.getpid() == process:  # not in a data loader's worker
            channel.stopping.set()

    for number in STOP_SIGNALS:
        # nohup has SIGHUP ignored, and so it stays.
        if number != signal.SIGINT and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # held until now


def do_task(task: Mapping[str, Any], device: str, channel: ParentChannel) -> bool:
    """Do one run, tell how it ended, and return whether this process may do another."""
    try:
        found = _run(task, device, ChannelProgress(channel))
    except FolderInUseError as error:
        channel.send("busy", text=str(error))
    except Interrupted:
        # In a new process, where it was a signal to this one alone.
        channel.send("stopped", ends=True)
        return False
    except OutOfMemory as error:
        # In a new process: this one may hold memory, or a device that answers no more.
        channel.send("failed", reason=f"{error}, or take fewer --jobs", ends=True)
        return False
    except KdcamError as error:
        channel.send("failed", reason=with_teacher_flag(str(error), task["teacher_flags"]), ends=False)
    except Exception as error:  # the border of the process: whatever it is, the other runs go on
        channel.send("failed", reason=failure_reason(error), ends=True)
        return False
    else:
        channel.send("done", **found)
    gc.collect()  # networks are in reference cycles, and their memory may be on a device that gc does not see
    return True


def _run(task: Mapping[str, Any], device: str, progress: ChannelProgress) -> dict[str, Any]:
    from kdcam import api  # here: it imports torch, see `serve`
    from kdcam.recipe.train_recipe import command_of, read_recipe  # here: as above

    recipe = read_recipe(task["recipe"], source=task["name"])
    run: Callable[..., Any] = {"train": api.train, "distill": api.distill, "finetune": api.finetune}[
        command_of(recipe)
    ]
    done = run(recipe, output=task["output"], device=device, command=task["command"], progress=progress)
    if task["teacher"] is not None:
        _measure(task, device, progress)
    selected = done.result["selected"]
    return {"was_finished": done.was_finished, "scores": selected["test"] or selected["validation"] or {}}


def _measure(task: Mapping[str, Any], device: str, progress: ChannelProgress) -> None:
    from kdcam.comparison.teacher_agreement import measure_agreement  # here: it imports torch, see `serve`
    from kdcam.recipe.recipe_fields import TeacherConfig  # here: as above

    output, teacher = Path(task["output"]), TeacherConfig.model_validate(task["teacher"])
    if progress.should_stop():
        raise Interrupted(f"{output}: stopped before its agreement with the teacher was measured")
    try:
        root = task["recipe"]["data"].get("root")
        data = None if root is None else {"root": root}  # where it lies now, which need not be where it lay
        measure_agreement(output, teacher, device=device, data=data, progress=progress)
    except KdcamError as error:
        # The run stands: its scores are worth more than a column.
        text = with_teacher_flag(str(error), task["teacher_flags"])
        progress.warning(f"agreement with the teacher is not measured: {text}")


def failure_reason(error: Exception) -> str:
    """Return why a run failed, in words, for an error that is none of kdcam's own."""
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    lack = memory_text(error)
    if lack is not None:
        return f"{lack} ({text}); take fewer --jobs, a smaller batch_size or another --device"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"a bug, please report it: {text}{place}"


__all__ = ["ChannelProgress", "ParentChannel", "do_task", "failure_reason", "serve"]
