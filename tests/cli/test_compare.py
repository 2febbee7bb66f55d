import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_up_runs import agreed, evaluated, measures, plan_of
from small_runs import scenes_file

from kdcam.comparison.table.aggregation import build_comparison
from kdcam.recipe.recipe_fields import Published

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture
def scenes(tmp_path: Path) -> str:
    return scenes_file(tmp_path).name


def test_a_table_on_stdout_and_all_columns_in_files(kdcam, scenes: str, tmp_path: Path) -> None:
    found = kdcam("compare", scenes, "--grid", "optimizer.lr=0.05,1e30", "--seeds", "0,3")
    assert found.code == 1, found.err  # since runs failed
    output = tmp_path / "runs" / "compare-scenes"
    lines = found.out.splitlines()
    assert lines[0].startswith("runs/compare-scenes: top-1, mean ± standard deviation over seeds")
    assert lines[1].split() == ["row", "seeds", "test", "%", "validation", "%", "test,", "last", "%"]
    assert "difference" not in lines[0]  # since no row has one
    further = next(index for index, line in enumerate(lines) if line.startswith(" row ") and index > 1)
    assert lines[further].split() == ["row", "validation,", "last", "%", "images/s", "parameters"]
    assert max(map(len, lines[1 : further + 4])) <= 100
    assert len([line for line in lines if line.startswith("failed: ")]) == 2
    assert any(
        line.startswith("selected: the epoch of the highest top-1 accuracy on the validation")
        for line in lines
    )
    assert "settings of a grid: choose on validation, not on test" in lines
    assert any(line.startswith("test scores are of the test part") for line in lines)
    assert "comparison.md" in lines[-1]
    assert "curves.png" in lines[-1]
    assert "done, acc1" in found.err
    assert "(2 of 4 runs, 1 failed)" in found.err
    (run,) = output.glob("runs/*0.05*-3")
    assert json.loads((run / "recipe.json").read_text())["command"][:2] == ["kdcam", "compare"]

    again = kdcam("compare", scenes, "--grid", "optimizer.lr=0.05", "--seeds", "0,3", "--json", "--quiet")
    assert again.code == 0, again.err
    assert all("comparison-previous" in line for line in again.err.splitlines())
    assert (output / "comparison-previous.md").exists()
    assert json.loads(again.out) == json.loads((output / "comparison.json").read_text())


def test_dry_run_lists_the_runs_and_touches_nothing(kdcam, scenes: str, tmp_path: Path) -> None:
    kdcam("train", scenes, "--output", "out/runs/scenes-0", "--quiet")
    before = sorted(tmp_path.rglob("*"))
    flags = ("compare", scenes, "--seeds", "0..1", "--output", "out", "--dry-run")
    found = kdcam(*flags)
    assert found.code == 0, found.err
    lines = [line.split(maxsplit=1) for line in found.out.splitlines()]
    assert found.out.startswith("out: 1 of 2 runs are missing\n")
    assert ["scenes-0", "finished"] in lines
    assert ["scenes-1", "to run"] in lines
    document = json.loads(kdcam(*flags, "--json").out)
    assert [run["state"] for run in document["runs"]] == ["finished", "new"]
    assert sorted(tmp_path.rglob("*")) == before


def test_dry_run_lists_each_loss_at_each_noise_rate(kdcam, scenes: str) -> None:
    flags = ("--losses", "focal,cam,focal+cam", "--grid", "data.noise.rate=0,0.4")
    settings = ("--set", "data.noise.kind=symmetric", "--set", "loss.cam.weight=3", "--seeds", "0")
    found = kdcam("compare", scenes, *flags, *settings, "--dry-run")
    assert found.code == 0, found.err
    assert "6 of 6 runs are missing" in found.out
    assert [line.split()[0] for line in found.out.splitlines() if line.endswith("to run")] == [
        f"scenes-{losses}-noise.rate={rate}-0"
        for losses in ("focal", "cam", "focal+cam")
        for rate in ("0", "0.4")
    ]
    assert "loss.cam.weight has no place in scenes.toml with focal, and changes nothing there" in found.err


def test_dry_run_counts_what_cannot_be_run(kdcam, scenes: str, tmp_path: Path) -> None:
    kdcam("train", scenes, "--output", "out/runs/scenes-0", "--set", "epochs=2", "--quiet")
    flags = (
        "--base",
        scenes,
        "--methods",
        "kd",
        "--teacher",
        "runs/gone",
        "--seeds",
        "0..1",
        "--output",
        "out",
    )
    found = kdcam("compare", *flags, "--dry-run")
    assert found.code == 1
    assert found.out.startswith("out: 1 of 4 runs are missing, 3 cannot be run\n")
    assert found.out.count("cannot be run: --teacher: runs/gone is not there") == 2
    document = json.loads(kdcam("compare", *flags, "--dry-run", "--json").out)
    assert (document["missing"], document["refused"]) == (1, 3)
    run = kdcam("compare", scenes, "--output", "out/runs/scenes-0", "--dry-run")
    assert run.code == 1
    assert "is the folder of a run" in run.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["compare"], 1, "name at least one"),
        (["compare", "scenes.toml", "--jobs", "0"], 2, "--jobs"),
        (["compare", "scenes.toml", "--device", "gpu"], 1, "--device gpu"),
        (["compare", "scenes.toml", "--seeds", "4..0"], 1, "seeds"),
        (["compare", "scenes.toml", "--dry-run", "--device", "gpu"], 1, "--device gpu"),
        (["compare", "scenes.toml", "--dry-run", "--output", "scenes.toml"], 1, "--output scenes.toml"),
        (["compare", "scenes.toml", "--methods", "kdd"], 1, "kdd"),
        (["compare", "scenes.toml", "--methods", ""], 1, "--methods: found ''"),
        (["compare", "scenes.toml", "--losses", "camm"], 1, "found 'camm'; did you mean 'cam'?"),
        (["compare", "scenes.toml", "--losses", ","], 1, "--losses: found ','"),
        (["compare", "scenes.toml", "--losses", "arcface"], 1, "in all rows: --set model.head=cosine"),
        (["compare", "scenes.toml", "--seeds", "1" * 5000], 1, "seeds"),
        (["compare", "scenes.toml", "--grid", f"epochs=1,{'2' * 5000}"], 1, "epochs"),
        (["compare", "scenes.toml", "--set", "optimizer.lrr=1"], 1, "unknown key 'lrr'"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_run(
    kdcam, scenes: str, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    found = kdcam(*arguments)
    assert found.code == code
    assert said in found.err
    assert found.out == ""
    assert not (tmp_path / "runs").exists()


def test_no_run_at_all_exits_with_1(kdcam, scenes: str) -> None:
    found = kdcam("compare", scenes, "--set", "optimizer.lr=1e30", "--seeds", "0")
    assert found.code == 1
    assert found.out == ""
    assert "kdcam: error: runs/compare-scenes: none of the 1 runs came to its end; scenes-0: " in found.err
    assert "Traceback" not in found.err


def _command(scenes: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "kdcam", "compare", scenes, "--output", "out", *more]


def test_two_at_once_on_one_folder_share_the_runs(scenes: str, tmp_path: Path) -> None:
    command = _command(scenes, "--seeds", "0..3", "--json")
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    tables = [json.loads(out) for out, _ in ends]
    assert tables[0] == tables[1]
    assert tables[0]["rows"][0]["seeds"] == [0, 1, 2, 3]
    assert tables[0]["failed"] == []
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == tables[0]
    done = "".join(err for _, err in ends)
    for seed in range(4):
        assert done.count(f"scenes-{seed}: done, ") == 1  # each run was done once


def test_ctrl_c_keeps_the_states_and_the_same_command_goes_on(tmp_path: Path) -> None:
    scenes_file(tmp_path, epochs=30)
    command = _command("scenes.toml", "--seeds", "0..1", "--jobs", "2")
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    kept = [tmp_path / "out" / "runs" / f"scenes-{seed}" / "metrics.jsonl" for seed in range(2)]
    while process.poll() is None and not all(path.exists() for path in kept):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers, too
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "stopped with 0 of 2 runs done; states are kept, the same command goes on" in err
    assert "Traceback" not in err
    assert out == ""
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "going on after epoch" in done.stderr


def test_on_a_terminal_each_run_has_a_bar(
    kdcam, scenes: str, module, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = module("render")
    shown: set[str] = set()
    move = render.BarProgress._move

    def seen(self, name: str, done: int, total: int, detail: str) -> None:
        move(self, name, done, total, detail)
        shown.add(name)
        left.append(dict(self.tasks))

    left: list[dict[str, object]] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(render.BarProgress, "_move", seen)
    found = kdcam("compare", scenes, "--seeds", "0..1", "--jobs", "2")
    assert found.code == 0, found.err
    assert {"all runs", "scenes-0", "scenes-1"} <= shown
    assert left[-1] == {}


def test_both_tables_of_whole_rows_fit_a_terminal(module) -> None:
    runs = {
        f"{name}-{seed}": measures(
            score + 0.01 * seed, curve=(0.5, score), images_per_second=12345.6, **agreed(0.85, 0.4, 0.6, 0.5)
        )
        for name, score in (("alone", 0.5), ("caam_cam", 0.55))
        for seed in range(3)
    }
    published = {"caam_cam": Published(accuracy=70.66, source="a paper")}
    found = build_comparison(plan_of(["alone", "caam_cam"], range(3), published=published), runs, {})
    compare = module("compare")
    first, further = compare.comparison_table(found, title="out"), compare.further_table(found)
    assert first.title.endswith("over seeds; difference to alone by seed, in points")
    assert further.columns == (
        "row",
        "validation, last %",
        "CAM similarity",
        "images/s",
        "parameters",
        "published %",
    )
    assert further.rows[1] == ("caam_cam", "55.00 ± 0.00", "0.600 ± 0.000", "12,346", "12,345", "70.66")
    for table in (first, further):
        cells = [table.columns, *table.rows]
        widths = [max(len(line[column]) for line in cells) for column in range(len(table.columns))]
        assert sum(widths) + 3 * (len(widths) - 1) + 1 <= 100  # as rich sets them


def test_later_evaluations_are_a_table_of_their_own(module) -> None:
    asked = {"evaluations": evaluated("verification", {"accuracy": 0.75})}
    found = build_comparison(plan_of(["alone"], [0]), {"alone-0": measures(0.5, **asked)}, {})
    compare = module("compare")
    assert compare.evaluation_table(found).rows == [("verification: accuracy", "alone", "75.00")]
    without = build_comparison(plan_of(["alone"], [0]), {"alone-0": measures(0.5)}, {})
    assert compare.evaluation_table(without).columns == ()
