"""Worker processes: real runs of a second on 45 tiny scenes."""

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from long_tests import in_long
from small_runs import Watcher, small_recipe

from kdcam.comparison.workers import worker_pool
from kdcam.comparison.workers.local_process import RunTask, Worker, WorkerEvent
from kdcam.comparison.workers.worker_pool import WorkerPool
from kdcam.errors import Interrupted
from kdcam.files.folder_lock import FolderLock
from kdcam.runs.run_files import find_state

ROOT = Path(__file__).parents[3]


class Watching(Watcher):
    """Keeps the bars, too; ``act`` sees each message, and each name of a bar that moves, as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.bars: list[tuple[str, int, int]] = []
        self.act: Callable[[str], None] = lambda _: None
        self.stops = False

    def message(self, text: str) -> None:
        super().message(text)
        self.act(text)

    def advance(self, task: str, done: int, total: int) -> None:
        self.bars.append((task, done, total))
        self.act(task)

    def should_stop(self) -> bool:
        return self.stops


def _task(folder: Path, name: str, **changes: Any) -> RunTask:
    recipe = small_recipe(epochs=1) if not changes else small_recipe(**({"epochs": 1} | changes))
    return RunTask(name, recipe.model_dump(mode="json"), str(folder / name), None, ("kdcam", "compare"))


def _crew(tasks: list[RunTask], progress: Watcher, *, jobs: int = 1) -> WorkerPool:
    return WorkerPool(tasks, devices=("cpu",) * jobs, threads=1, progress=progress)


def test_failed_runs_are_told_with_their_reasons_and_the_others_are_done(tmp_path: Path) -> None:
    folder_of_nothing = {"name": "image-folder", "root": str(tmp_path / "photos"), "image_size": 16}
    tasks = [
        _task(tmp_path, "no-data", data=folder_of_nothing),
        _task(tmp_path, "explodes", optimizer={"name": "sgd", "lr": 1e30}, epochs=3),
        _task(tmp_path, "whole"),
        _task(tmp_path, "whole-too", seed=1),
    ]
    progress = Watching()
    failed = _crew(tasks, progress, jobs=2).work()
    assert set(failed) == {"no-data", "explodes"}
    assert str(tmp_path / "photos") in failed["no-data"]
    assert "finite" in failed["explodes"]
    assert "\n" not in "".join(failed.values())
    assert any(text.startswith("no-data: failed: ") for text in progress.warnings)
    assert find_state(tmp_path / "whole") == find_state(tmp_path / "whole-too") == "finished"
    assert any(text.startswith("whole: done, acc1 ") for text in progress.messages)
    assert progress.bars[0] == ("all runs", 0, 4)
    assert progress.bars[-1] == ("all runs", 4, 4)
    assert ("whole", 3, 3) in progress.bars
    left = {name: (done, total) for name, done, total in progress.bars}
    assert all(done >= total for done, total in left.values())  # no bar is left standing


def test_one_process_does_run_after_run(tmp_path: Path) -> None:
    crew = _crew([_task(tmp_path, f"run-{seed}", seed=seed) for seed in range(2)], Watching())
    begun: list[int] = []
    assign = Worker.assign

    def counted(worker: Worker, task: RunTask) -> None:
        begun.append(worker.process.pid)
        assign(worker, task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worker, "assign", counted)
        assert crew.work() == {}
    assert len(begun) == 2
    assert len(set(begun)) == 1


def test_a_killed_worker_is_told_and_another_takes_its_place(tmp_path: Path) -> None:
    progress = Watching()
    crew = _crew([_task(tmp_path, "killed", epochs=100_000), _task(tmp_path, "next")], progress)

    def kill(text: str) -> None:
        if text == "killed":
            for worker in crew.workers.values():
                worker.process.send_signal(signal.SIGKILL)

    progress.act = kill
    failed = crew.work()
    assert list(failed) == ["killed"]
    assert "signal 9 (SIGKILL), perhaps for lack of memory" in failed["killed"]
    assert find_state(tmp_path / "next") == "finished"
    assert find_state(tmp_path / "killed") == "unfinished"


def test_a_stop_keeps_the_states_and_leaves_what_waits(tmp_path: Path) -> None:
    progress = Watching()
    tasks = [_task(tmp_path, "long", epochs=100_000), _task(tmp_path, "waits")]

    def stop(text: str) -> None:
        progress.stops |= text == "long"

    progress.act = stop
    with pytest.raises(Interrupted, match=r"stopped with 0 of 2 runs done"):
        _crew(tasks, progress).work()
    assert find_state(tmp_path / "long") == "unfinished"
    assert list((tmp_path / "long" / "resume").iterdir())
    assert find_state(tmp_path / "waits") == "new"
    FolderLock(tmp_path / "long").release()  # nobody holds it


def test_a_run_that_another_process_does_is_tried_again_later(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    lock = FolderLock(tmp_path / "held")
    progress = Watching()

    def release(text: str) -> None:
        if text.startswith("free: done"):
            lock.release()

    progress.act = release
    assert _crew([_task(tmp_path, "held"), _task(tmp_path, "free", seed=1)], progress).work() == {}
    assert find_state(tmp_path / "held") == "finished"
    told = [text for text in progress.messages if "another process is writing" in text]
    assert len(told) == 1
    assert told[0].startswith("held: ")


def test_a_busy_folder_is_looked_at_ever_more_rarely_and_costs_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    busy_text = worker_pool._busy_text

    def counted(folder: Path) -> str | None:
        looks.append(time.monotonic())
        if len(looks) == 3:
            lock.release()
        return busy_text(folder)

    monkeypatch.setattr(worker_pool, "_busy_text", counted)
    monkeypatch.setattr(worker_pool, "_RETRY_SECONDS", (0.3, 0.9))
    (tmp_path / "held").mkdir()
    lock = FolderLock(tmp_path / "held")
    begun: list[str] = []
    assign = Worker.assign

    def noted(worker: Worker, task: RunTask) -> None:
        begun.append(task.name)
        assign(worker, task)

    monkeypatch.setattr(Worker, "assign", noted)
    assert _crew([_task(tmp_path, "held")], Watching()).work() == {}
    assert begun == ["held"]
    assert looks[1] - looks[0] >= 0.3
    assert looks[2] - looks[1] >= 0.9


def test_lines_that_no_worker_wrote_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b'a library\n[1]\n{}\n\xff\n{"kind": "message", "text": "whole"}\n{"kind": "torn"'
    monkeypatch.setattr(
        "kdcam.comparison.workers.local_process._START_CODE", f"import os; os.write(1, {lines!r})"
    )
    events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
    worker = Worker(events, device="cpu", threads=1)
    worker.close()
    found = [events.get(timeout=10).document for _ in range(2)]
    assert found == [{"kind": "message", "text": "whole"}, None]
    assert events.empty()


def test_a_bug_is_told_as_one_and_the_process_is_replaced(tmp_path: Path) -> None:
    broken = _task(tmp_path, "broken")._replace(recipe=[1])  # type: ignore[arg-type]
    failed = _crew([broken, _task(tmp_path, "next")], Watching()).work()
    assert list(failed) == ["broken"]
    assert failed["broken"].startswith("a bug, please report it: TypeError: ")
    assert ".py, line " in failed["broken"]
    assert find_state(tmp_path / "next") == "finished"


def test_a_worker_whose_parent_is_gone_keeps_its_state_and_ends(tmp_path: Path) -> None:
    code = (
        "import sys, runpy; sys.path.insert(0, sys.argv[1]); "
        "runpy.run_path(sys.argv[2])['work_forever'](sys.argv[3])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(ROOT / "tests"), __file__, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 30
    while _is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(worker)
    assert list((tmp_path / "orphan" / "resume").iterdir())
    FolderLock(tmp_path / "orphan").release()


def work_forever(folder: str) -> None:
    """Run a crew that says its worker's process when it is at work; for a process that is killed."""
    crew = _crew([_task(Path(folder), "orphan", epochs=100_000)], progress := Watching())

    def say(text: str) -> None:
        if text == "orphan":
            print(crew.workers[0].process.pid, flush=True)

    progress.act = say
    crew.work()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # One that has ended and that nobody waits for still has its number.
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a scheduler")
@pytest.mark.parametrize("number", ["SIGTERM", in_long("SIGHUP")])
def test_a_worker_that_a_scheduler_stops_keeps_its_state_and_ends(tmp_path: Path, number: str) -> None:
    progress = Watching()

    def end_it(text: str) -> None:
        if text == "long":
            for worker in crew.workers.values():
                worker.process.send_signal(getattr(signal, number))

    progress.act = end_it
    crew = _crew([_task(tmp_path, "long", epochs=100_000), _task(tmp_path, "other")], progress)
    with pytest.raises(Interrupted, match=r"stopped with 1 of 2 runs done"):
        crew.work()
    assert list((tmp_path / "long" / "resume").iterdir())
    assert find_state(tmp_path / "other") == "finished"  # by a process that nobody stopped


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a scheduler")
def test_a_signal_while_a_worker_starts_is_heeded_once_it_works(tmp_path: Path) -> None:
    events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
    worker = Worker(events, device="cpu", threads=1)
    worker.process.send_signal(signal.SIGTERM)
    worker.assign(_task(tmp_path, "run"))
    kinds = []
    while not kinds or kinds[-1] not in {"done", "failed", "stopped", None}:
        document = events.get(timeout=60).document
        kinds.append(document and document["kind"])
    worker.close()
    assert kinds[-1] == "stopped"
    assert worker.process.returncode == 0
    assert find_state(tmp_path / "run") == "unfinished"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of a terminal")
def test_ctrl_c_of_the_terminal_does_not_reach_a_worker(tmp_path: Path) -> None:
    events: queue.SimpleQueue[WorkerEvent] = queue.SimpleQueue()
    worker = Worker(events, device="cpu", threads=1)
    worker.process.send_signal(signal.SIGINT)  # while it starts
    worker.assign(_task(tmp_path, "run"))
    kinds = []
    while not kinds or kinds[-1] not in {"done", "failed", None}:
        document = events.get(timeout=60).document
        kinds.append(document and document["kind"])
        if kinds[-1] == "message":
            worker.process.send_signal(signal.SIGINT)  # while it works
    worker.close()
    assert kinds[-1] == "done"
    assert worker.process.returncode == 0
