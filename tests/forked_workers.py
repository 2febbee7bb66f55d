"""A comparison's workers as forks of the tests' process, which spares each of them seconds of imports.

How workers start, stop and die as processes of their own is tried in tests/comparison/workers/test_worker_pool.py.
"""

import json
import os
import signal
import subprocess
import sys
import warnings
from types import SimpleNamespace
from typing import Any

import pytest


class ForkedWorker:
    """What a worker needs of ``subprocess.Popen``."""

    def __init__(self, command: list[str], **pipes: Any) -> None:
        assert pipes == {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        _, threads, device = json.loads(command[-1])
        (its_input, ours_to_write), (ours_to_read, its_output) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(its_input, its_output, threads, device)
        os.close(its_input)
        os.close(its_output)
        self.stdin, self.stdout = os.fdopen(ours_to_write, "wb"), os.fdopen(ours_to_read, "rb")
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


def _serve(its_input: int, its_output: int, threads: int, device: str) -> None:
    from kdcam.comparison.workers.local_process import STOP_SIGNALS
    from kdcam.comparison.workers.worker_main import serve

    code = 1
    try:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(its_input, 0)
        os.dup2(its_output, 1)
        os.closerange(3, 4096)  # other workers' pipes, which must end with the tests' process
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        warnings.resetwarnings()
        serve(threads, device)
        code = 0
    finally:
        os._exit(code)


@pytest.fixture
def forked_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork workers in this test."""
    if hasattr(os, "fork"):
        found = SimpleNamespace(Popen=ForkedWorker, PIPE=subprocess.PIPE)
        monkeypatch.setattr("kdcam.comparison.workers.local_process.subprocess", found)
