"""What tests take less of than before a release: .ci/long sets KDCAM_LONG_TESTS and runs those marked long."""

import os

import pytest
import torch

LONG = bool(os.environ.get("KDCAM_LONG_TESTS"))


def in_long(*values: object) -> object:
    """Return the values of one case of a parametrised test that only .ci/long tries."""
    marks = [pytest.mark.long, pytest.mark.skipif(not LONG, reason="tried in .ci/long")]
    return pytest.param(*values, marks=marks)


def compile_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace and differentiate as ever, but write no C++, which takes two minutes for the two readings of TRADES.

    The C++ is tried by the plain step of tests/test_engine.py, and in .ci/long everywhere.
    """
    if not LONG:
        usual = torch.compile
        monkeypatch.setattr(torch, "compile", lambda function: usual(function, backend="aot_eager"))
