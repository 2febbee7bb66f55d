import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

README = Path(__file__).parents[2] / "README.md"

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


def test_a_dry_run_tells_which_weights_a_foreign_file_gives(kdcam, digits_run: Path, tmp_path: Path) -> None:
    weights = {f"model.{name}": value for name, value in load_file(digits_run / "model.safetensors").items()}
    torch.save({"state_dict": weights, "state_dict_ema": weights}, tmp_path / "last.ckpt")
    network = json.loads((digits_run / "config.json").read_text())["kdcam"]["model"]["name"]
    (tmp_path / "tune.toml").write_text(f'{TUNE}[model]\nname = "{network}"\n')
    flags = ("finetune", "tune.toml", "--from", "last.ckpt", "--dry-run")
    found = kdcam(*flags)
    assert found.code == 0, found.err
    assert "read from its table state_dict_ema, a moving average, not from state_dict" in found.err
    assert "names without 'model.'" in found.err
    assert len(json.loads(kdcam(*flags, "--json").out)["notes"]) == 2


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


@pytest.fixture
def readme_folder(kdcam, tmp_path: Path, photos: Path, photo_recipe: Path) -> Path:
    """Return a folder as README has it: pictures, the recipe that `kdcam recipes new` writes, and a run."""
    assert kdcam("train", photo_recipe, "--output", "runs/base-0", "--quiet").code == 0
    photo_recipe.unlink()
    photos.rename(tmp_path / "my-photos")
    written = kdcam("recipes", "new", "my-photos", "-o", "photos.toml")
    assert written.code == 0, written.err
    return tmp_path


def lines_of_readme() -> list[list[str]]:
    lines = README.read_text(encoding="utf-8").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("kdcam finetune ")]


def test_readme_has_its_lines() -> None:
    assert len(lines_of_readme()) >= 3


@pytest.mark.parametrize("line", lines_of_readme(), ids=" ".join)
def test_the_lines_of_readme_work(kdcam, readme_folder: Path, line: list[str]) -> None:
    found = kdcam(*line, "--dry-run")
    assert found.code == 0, found.err
    assert "frozen" in found.err or "init.frozen" not in " ".join(line)


def test_what_a_recipe_says_of_its_own_network_gives_way(kdcam, readme_folder: Path) -> None:
    line = (
        "finetune",
        "photos.toml",
        "--from",
        "runs/base-0",
        "--set",
        "epochs=1",
        "--set",
        "data.image_size=16",
    )
    found = kdcam(*line)
    assert found.code == 0, found.err
    (note,) = [one for one in found.err.splitlines() if "left out the recipe's name" in one]
    assert "which is of 'kdcam:resnet8_s2'" in note
    config = json.loads((readme_folder / "runs/photos-0/config.json").read_text())
    assert "resnet8_s2" in json.dumps(config)
    refused = kdcam(*line, "--set", "model.name=resnet18", "--output", "runs/other")
    assert refused.code == 1
    assert "model.name: found 'resnet18', but init.checkpoint (runs/base-0) is of" in refused.err


def test_the_readmes_linear_probe_is_solved(kdcam, readme_folder: Path) -> None:
    (line,) = [one for one in lines_of_readme() if any("linear-probe" in word for word in one)]
    found = kdcam(*line)
    assert found.code == 0, found.err
    assert "C = " in found.out
