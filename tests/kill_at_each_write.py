"""Kills a run at each of its writes in turn, lets it go on, and compares it with an uninterrupted one.

Run as a script: python tests/kill_at_each_write.py FOLDER. Each run is a forked child of a process that has
imported torch but computed nothing; os._exit at a write is as sudden as SIGKILL for whoever holds no other resource.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from small_runs import Watcher, kept_files, small_recipe

from kdcam.training.preflight import preflight
from kdcam.training.training_run import run_training

KILLED = 9


class FaultAt:
    """Lets ``count`` calls of the functions that write pass and acts on the next."""

    def __init__(self, count: int, act: Callable[[], None]) -> None:
        self.left, self.act = count, act

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == -1:
                self.act()
            return function(*args, **kwargs)

        return wrapped


def plant(fault: FaultAt) -> list[Callable[[], None]]:
    """Wrap the functions by which a run writes to the disk; return what undoes it."""
    undo: list[Callable[[], None]] = []
    for owner, name in ((os, "write"), (os, "fsync"), (Path, "replace"), (Path, "mkdir")):
        original = getattr(owner, name)
        setattr(owner, name, fault.wrap(original))
        undo.append(lambda owner=owner, name=name, original=original: setattr(owner, name, original))  # type: ignore[misc]
    return undo


def do_run(path: Path) -> None:
    """Do or go on with the small run in a folder."""
    checked = preflight(small_recipe(), device="cpu")
    run_training(checked, output=path, resume="auto", command=(), progress=Watcher())


def in_child(work: Callable[[], None]) -> int:
    """Return the exit code of a forked child that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> int:
    """Return how many writes a run was killed at, each time to no harm."""
    torch.set_num_threads(1)
    assert in_child(lambda: do_run(folder / "whole")) == 0
    wanted = kept_files(folder / "whole")
    count = 0
    while True:
        path = folder / f"killed-{count}"

        def killed(path: Path = path, count: int = count) -> None:
            plant(FaultAt(count, lambda: os._exit(KILLED)))
            do_run(path)

        code = in_child(killed)
        if code == 0:
            return count
        assert code == KILLED, f"write {count}: the run ended with {code}"
        assert in_child(lambda path=path: do_run(path)) == 0, f"write {count}: the run does not go on"  # type: ignore[misc]
        assert kept_files(path) == wanted, f"write {count}: the run ended differently"
        count += 1


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
