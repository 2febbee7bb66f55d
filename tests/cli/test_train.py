import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

QUICK = ("--set", "epochs=1")


def test_train_writes_a_run_and_prints_its_scores(kdcam, tmp_path: Path) -> None:
    found = kdcam("train", "digits", *QUICK)
    assert found.code == 0
    run = tmp_path / "runs" / "digits-0"
    assert {path.name for path in run.iterdir()} >= {
        "recipe.json",
        "metrics.jsonl",
        "result.json",
        "model.safetensors",
        "config.json",
        "resume",
    }
    assert "runs/digits-0 finished" in found.out
    assert "acc1" in found.out
    assert "selected" in found.out
    lines = found.err.splitlines()
    assert [line for line in lines if line.startswith("epoch 1/1  cross_entropy ")]
    assert json.loads((run / "recipe.json").read_text())["command"] == ["kdcam", "train", "digits", *QUICK]


def test_the_same_command_again_prints_the_result(kdcam) -> None:
    first = kdcam("train", "digits", *QUICK)
    again = kdcam("train", "digits", *QUICK)
    assert again.code == 0
    assert "was finished before" in again.out
    assert again.out.splitlines()[1:] == first.out.splitlines()[1:]
    assert again.err == ""


def test_another_recipe_does_not_overwrite_a_finished_run(kdcam) -> None:
    kdcam("train", "digits", *QUICK)
    found = kdcam("train", "digits", *QUICK, "--set", "optimizer.lr=0.01")
    assert found.code == 1
    assert "optimizer.lr" in found.err
    assert "--output" in found.err
    assert found.out == ""
    assert kdcam("train", "digits", *QUICK, "--resume", "never").code == 1


def test_json_is_the_only_thing_on_stdout(kdcam, tmp_path: Path) -> None:
    found = kdcam("train", "digits", *QUICK, "--json", "--output", tmp_path / "here", "--seed", "3")
    document = json.loads(found.out)
    assert document["run"] == str(tmp_path / "here")
    assert document["was_finished"] is False
    assert document["selected"]["test"]["acc1"] == pytest.approx(document["last"]["test"]["acc1"])
    assert json.loads((tmp_path / "here" / "recipe.json").read_text())["seed"] == 3


def test_quiet_says_nothing_on_stderr(kdcam) -> None:
    found = kdcam("train", "digits", *QUICK, "--set", "schedule.warmup_epochs=0", "--quiet")
    assert found.code == 0
    assert found.err == ""


def test_dry_run_prints_the_resolved_recipe_and_touches_nothing(kdcam, tmp_path: Path) -> None:
    import tomllib

    found = kdcam(
        "train", "digits", "--dry-run", "--set", "seed=1", "--set", "loss.cam.weight=0.5", "--seed", "2"
    )
    assert found.code == 0
    recipe = tomllib.loads(found.out)
    assert recipe["seed"] == 2  # a dedicated flag counts more than --set
    assert recipe["loss"][1]["weight"] == 0.5
    assert recipe["optimizer"]["momentum"] == 0.9
    assert "output: runs/digits-2" in found.err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_runs_recipe_is_the_same_recipe(kdcam, tmp_path: Path) -> None:
    import kdcam as library

    (tmp_path / "full.toml").write_text(kdcam("train", "digits", "--dry-run", "--quiet").out)
    assert library.load_recipe(tmp_path / "full.toml") == library.load_recipe("digits")


def test_dry_run_and_training_warn_of_settings_that_do_not_fit_the_run(kdcam, tmp_path: Path) -> None:
    settings = ("--set", "epochs=1", "--set", "schedule.warmup_epochs=2", "--set", "ema_decay=0.9998")
    dry = kdcam("train", "digits", *settings, "--dry-run", "--json")
    assert json.loads(dry.out)["recipe"]["ema_decay"] == 0.9998
    whole = kdcam("train", "digits", *settings, "--output", tmp_path / "run", "-q")
    assert whole.code == 0, whole.err
    for found in (dry, whole):
        assert "warning: schedule.warmup_epochs: found 2 in a run of 1 epoch, so that" in found.err
        assert "warning: ema_decay: found 0.9998 in a run of " in found.err


def test_dry_run_as_json(kdcam) -> None:
    document = json.loads(kdcam("train", "digits", "--dry-run", "--json").out)
    assert document["output_holds"] == "no run"
    assert document["classes"] == 10
    assert document["recipe"]["data"]["name"] == "digits"


def test_ctrl_c_keeps_the_state_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "kdcam",
        "train",
        "digits",
        "--set",
        "epochs=8",
        "--output",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/8"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert "Traceback" not in err
    assert out == ""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "going on after epoch" in done.stderr
    assert "epoch 1/8" not in done.stderr
    assert (tmp_path / "run" / "result.json").exists()


def test_threads_that_do_not_fit_are_hinted_at(kdcam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: 10_000)
    found = kdcam("train", "digits", "--set", "epochs=1", "--device", "cpu")
    assert "torch uses 10000 threads on" in found.err
    quiet = kdcam("train", "digits", "--set", "epochs=1", "--output", "other", "--device", "cpu", "--quiet")
    assert "threads" not in quiet.err


def test_torchrun_with_several_processes_is_refused_in_one_line(
    kdcam, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for arguments in (["train", "digits"], ["evaluate", "run"], ["compare", "digits", "--seeds", "0"]):
        found = kdcam(*arguments)
        assert found.code == 1
        assert found.err.startswith("kdcam: error: started as 2 processes")
        assert len(found.err.splitlines()) == 1
    assert not Path("runs").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert kdcam("train", "digits", "--set", "epochs=1").code == 0


def test_a_dry_run_decodes_some_of_the_pictures(kdcam, photos: Path, photo_recipe: Path) -> None:
    document = json.loads(kdcam("train", photo_recipe, "--dry-run", "--json").out)
    assert document["pictures"] == "24 of 24 decoded"
    (photos / "cat" / "03.png").write_bytes((photos / "cat" / "03.png").read_bytes()[:200])
    found = kdcam("train", photo_recipe, "--dry-run")
    assert found.code == 1
    assert "1 of 24 pictures decoded, out of 24, cannot be read: " in found.err
    assert "03.png" in found.err
    found = kdcam("train", photo_recipe, "--dry-run", "--set", "data.on_bad_image=skip")
    assert found.code == 0
    assert "pictures: 24 of 24 decoded, 1 of them bad" in found.err
