import json

import pytest

from kdcam.runtime.progress import EpochRecord, StepRecord

EPOCH = EpochRecord(
    epoch=2,
    epochs=10,
    step=80,
    learning_rate=0.05,
    terms={"cross_entropy": 0.5, "cam": 0.125},
    validation={"acc1": 0.931, "nll": 0.25, "ece": 0.1},
    images_per_second=1234.4,
    seconds=3.0,
    seconds_left=75.0,
    best=True,
)


def test_epoch_line(module) -> None:
    assert module("render").epoch_line(EPOCH) == (
        "epoch 2/10  cross_entropy 0.5000, cam 0.1250  validation acc1 93.10%, nll 0.2500  lr 0.05  "
        "1,234 images/s  1:15 left  (selected)"
    )
    bare = module("render").epoch_line(EPOCH._replace(validation={}))
    assert "validation" not in bare
    assert "selected" not in bare


def test_tables_stand_whole_in_a_pipe(module, capfd: pytest.CaptureFixture[str]) -> None:
    render = module("render")
    wide = "x" * 300
    render.show_table(render.Table(("name", "n"), [("[bold]", "1"), (wide, "22")], title="a title"))
    out = capfd.readouterr().out
    assert out.startswith("a title\n")
    assert wide in out
    assert "[bold]" in out
    assert not any(line != line.rstrip() for line in out.splitlines())


def test_json_has_no_nan(module, capfd: pytest.CaptureFixture[str]) -> None:
    module("render").show_json({"loss": float("nan"), "name": "é"})
    assert json.loads(capfd.readouterr().out) == {"loss": None, "name": "é"}


def test_without_a_terminal_an_epoch_is_a_line(module, capfd: pytest.CaptureFixture[str]) -> None:
    render = module("render")
    with render.watching(quiet=False) as progress:
        progress.message("begins")
        progress.step(StepRecord(1, 2, 3, 4, {}, 5.0, 6.0))
        progress.advance("reading", 1, 2)
        progress.epoch(EPOCH)
        progress.warning("careful")
        assert progress.should_stop() is False
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["begins", render.epoch_line(EPOCH), "warning: careful"]


def test_quiet_shows_warnings_only(module, capfd: pytest.CaptureFixture[str]) -> None:
    with module("render").watching(quiet=True) as progress:
        progress.message("begins")
        progress.epoch(EPOCH)
        progress.warning("careful")
    assert capfd.readouterr().err == "warning: careful\n"


def test_bars_on_a_terminal(
    module, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    with module("render").watching(quiet=False) as progress:
        for step in range(1, 5):
            progress.step(StepRecord(1, 2, step, 4, {"kd": 0.25}, 100.0, 6.0))
        progress.advance("reading", 1, 2)
        assert list(progress.tasks) == ["reading"]  # a finished bar goes away
        progress.message("[not markup]")
        progress.warning("careful")
        progress.epoch(EPOCH)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "[not markup]" in captured.err
    assert "warning: careful" in captured.err
    assert "validation acc1 93.10%" in captured.err
