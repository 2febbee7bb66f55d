import json
from pathlib import Path

TUNE = """
epochs = 1
[data]
name = "digits"
"""


def test_finetune_goes_on_from_a_run(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.toml").write_text(TUNE)
    found = kdcam("finetune", "tune.toml", "--from", digits_run, "--set", "init.frozen=2")
    assert found.code == 0, found.err
    assert "runs/tune-0 finished" in found.out
    stored = json.loads((tmp_path / "runs" / "tune-0" / "recipe.json").read_text())
    assert stored["recipe"]["init"]["checkpoint"] == str(digits_run)
    assert stored["recipe"]["model"] == {}
    again = kdcam("finetune", "tune.toml", "--from", digits_run, "--set", "init.frozen=2", "--json")
    assert json.loads(again.out)["was_finished"]


def test_a_dry_run_tells_what_is_frozen(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.toml").write_text(f'{TUNE}[init]\ncheckpoint = "elsewhere/run"\nfrozen = "all"\n')
    found = kdcam("finetune", "tune.toml", "--from", digits_run, "--dry-run", "--json")
    document = json.loads(found.out)
    assert document["recipe"]["init"] == {
        "checkpoint": str(digits_run),
        "frozen": "all",
        "unfreeze": 1.0,
        "layer_decay": 1.0,
    }
    assert 0 < document["frozen_parameters"] < document["student_parameters"]
    assert not (tmp_path / "runs").exists()


def test_the_right_command_is_named(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "tune.toml").write_text(TUNE)
    without = kdcam("finetune", "tune.toml")
    assert without.code == 1
    assert "--from CHECKPOINT" in without.err
    trained = kdcam("train", "tune.toml", "--set", f"init.checkpoint={digits_run}")
    assert trained.code == 1
    assert "use `kdcam finetune`" in trained.err
    assert trained.out == ""


def test_a_start_that_is_not_there(kdcam, tmp_path: Path) -> None:
    (tmp_path / "tune.toml").write_text(TUNE)
    found = kdcam("finetune", "tune.toml", "--from", "runs/nowhere")
    assert found.code == 1
    assert len(found.err.strip().splitlines()) == 1
    assert "init.checkpoint: runs/nowhere is not there; give a run folder" in found.err
