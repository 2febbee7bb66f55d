"""Folders that an earlier version made still open, go on, evaluate and report (tests/assets/earlier_runs/README.md).

Only commands, public names and files are used here, and the ends are compared as closely as processors agree.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Outcome, run_command, signals_put_back

import kdcam

EARLIER = Path(__file__).parent / "assets" / "earlier_runs"
AVERAGED = ("--set", "ema_decay=0.8")
GRID = ("--losses", "cam,focal+cam", "--set", "epochs=2", "--seeds", "0", "--output", "comparison")
STOPPED_ATTACK = (
    "--attacks",
    "pgd-40",
    "--eps",
    "0.001",
    "--batch-size",
    "4",
    "--no-checks",
    "--no-pictures",
)
Command = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folders are copied, and paths in recipes are from where they lie."""
    shutil.copytree(EARLIER, tmp_path / "earlier")
    monkeypatch.chdir(tmp_path / "earlier")
    with signals_put_back():
        yield


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command on the CPU; it must end well."""

    def run(name: str, *arguments: object, device: tuple[str, ...] = ("--device", "cpu")) -> Outcome:
        found = run_command(monkeypatch, capfd, name, *arguments, *device)
        assert found.code == 0, found.err
        return found

    return run


def contents(folder: str) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(Path(folder).rglob("*")) if file.is_file()}


def read(file: str) -> Any:
    return json.loads(Path(file).read_text())


def lines(file: str) -> list[Any]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


def close(table: Any, within: float) -> Any:
    """Return the table with its numbers as ``pytest.approx`` compares them."""
    if isinstance(table, dict):
        return {key: close(value, within) for key, value in table.items()}
    if isinstance(table, list):
        return [close(value, within) for value in table]
    is_number = isinstance(table, int | float) and not isinstance(table, bool)
    return pytest.approx(table, rel=within, abs=0) if is_number else table


@pytest.mark.parametrize("weights", ["selected", "last"])
def test_a_finished_run_evaluates_to_its_result(weights: Any, command: Command) -> None:
    stored = read("finished/result.json")[weights]
    for part in ("validation", "test"):
        found = command("evaluate", "finished", "--part", part, "--weights", weights, "--json")
        scores = json.loads(found.out)
        assert {key: scores[key] for key in stored[part]} == close(stored[part], 1e-6)


def test_a_finished_run_opens() -> None:
    network = kdcam.load("finished", device="cpu")
    assert isinstance(network, kdcam.Classifier)
    assert sum(parameter.numel() for parameter in network.parameters()) == 77754
    assert not network.training


def test_a_finished_run_is_not_trained_again(command: Command) -> None:
    before = contents("finished")
    found = command("train", "scenes.toml", "--output", "finished", "--json")
    document = json.loads(found.out)
    assert document["was_finished"] is True
    assert {key: document[key] for key in ("selected", "last")} == {
        key: read("finished/result.json")[key] for key in ("selected", "last")
    }
    assert contents("finished") == before


def test_an_unfinished_run_goes_on_to_the_end_that_it_would_have_had(command: Command) -> None:
    end = read("unfinished_end.json")
    before = lines("unfinished/metrics.jsonl")
    found = command("train", "scenes.toml", *AVERAGED, "--output", "unfinished", "--json")
    assert "unfinished: going on after epoch 3, step " in found.err
    assert json.loads(found.out)["was_finished"] is False
    epochs = lines("unfinished/metrics.jsonl")
    assert epochs[:3] == before
    for epoch, stored in zip(epochs, end["epochs"], strict=True):
        for key in ("epoch", "step", "lr", "train", "val", "selected"):
            assert epoch[key] == close(stored[key], 1e-6), (epoch["epoch"], key)
    assert read("unfinished/result.json") == close(end["result"], 1e-6)


def distilled(command: Command, output: str) -> tuple[Outcome, dict[str, float]]:
    """Return what the small distillation told and its first epoch's losses."""
    found = command("distill", "student.toml", "--output", output)
    return found, lines(f"{output}/metrics.jsonl")[0]["train"]


def test_a_teacher_cache_is_read_and_not_filled_anew(command: Command) -> None:
    before = contents("teacher_cache")
    found, losses = distilled(command, "student")
    # What is run of a teacher for the cache is told in a line before.
    assert not [line for line in found.err.splitlines() if line.startswith("teacher cache")]
    assert contents("teacher_cache") == before
    assert losses == close(read("student_end.json")["epochs"][0]["train"], 1e-4)


def test_what_the_cache_holds_is_what_teaches(command: Command) -> None:
    logits = np.load("teacher_cache/logits.npy")
    np.save("teacher_cache/logits.npy", logits + np.float16(8) * (np.arange(10) == 0))
    _, losses = distilled(command, "student")
    stored = read("student_end.json")["epochs"][0]["train"]
    assert losses["kd"] > 2 * stored["kd"]


def test_a_comparison_is_taken_up_and_nothing_trained_again(command: Command) -> None:
    stored = read("comparison/comparison.json")
    before = contents("comparison/runs")
    states = json.loads(command("compare", "scenes.toml", *GRID, "--dry-run", "--json").out)["runs"]
    assert [(run["name"], run["state"]) for run in states] == [
        ("scenes-cam-0", "finished"),
        ("scenes-focal+cam-0", "finished"),
    ]
    found = command("compare", "scenes.toml", *GRID, "--json")
    document = json.loads(found.out)
    assert document["rows"] == close(stored["rows"], 1e-9)
    assert {key: document[key] for key in ("base", "seeds", "sets")} == {
        key: stored[key] for key in ("base", "seeds", "sets")
    }
    after = contents("comparison/runs")
    assert {file: after[file] for file in before} == before


def test_a_robustness_evaluation_is_taken_as_it_is(command: Command) -> None:
    before = contents("finished")
    found = command("evaluate-robustness", "finished", "--attacks", "fgsm", "--no-pictures")
    assert "finished: evaluated just so before, robustness.json is taken as it is" in found.err.splitlines()
    assert contents("finished") == before


def test_a_stopped_robustness_evaluation_goes_on(command: Command) -> None:
    (progress,) = Path("finished").glob("robustness-progress-*.json")
    found = command("evaluate-robustness", "finished", *STOPPED_ATTACK)
    assert f"goes on from {progress.name}" in found.err
    assert not progress.exists()
    table = read("finished/robustness.json")
    assert "pgd-40" in json.dumps(table)
    assert "fgsm" not in json.dumps(table)


def test_reports_show_what_the_folders_hold(command: Command) -> None:
    for folder, words in {
        "finished": ("Scores", "Learning curves", "Localization", "Robustness", "How it was made"),
        "unfinished": ("Learning curves", "How it was made"),
        "comparison": ("Comparison", "focal+cam"),
    }.items():
        file = Path(json.loads(command("report", folder, "--json", device=()).out)["file"])
        page = file.read_text()
        assert [word for word in words if word not in page] == []
