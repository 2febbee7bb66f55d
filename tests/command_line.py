"""The command line as a user starts it, through the installed entry point, in the process of the tests."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import NamedTuple

import pytest


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


def entry_point() -> Callable[[], None]:
    (script,) = entry_points(group="console_scripts", name="kdcam")
    return script.load()


def run_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: object
) -> Outcome:
    """Run a command and return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["kdcam", *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        entry_point()()
    captured = capfd.readouterr()
    return Outcome(int(stop.value.code or 0), captured.out, captured.err)


@contextmanager
def signals_put_back() -> Iterator[None]:
    """Put signals back at the end: a command ends its process and leaves them taken."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
