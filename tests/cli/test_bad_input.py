"""Wrong recipes, data and checkpoints: one clear message on stderr, exit code 1, nothing begun."""

import json
import os
import shutil
from pathlib import Path

import pytest


def refused(found, *said: str) -> None:
    assert found.code == 1, found.err
    assert found.out == ""
    assert found.err.count("kdcam: error: ") == 1
    assert "Traceback" not in found.err
    for words in said:
        assert words in found.err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epocs=3", ("unknown key 'epocs'", "did you mean 'epochs'?")),
        ("epochs=many", ("epochs", "'many'", "whole number")),
        ("loss.kd.weight=1", ("names no table",)),
        ("epochs", ("must read key=value",)),
        ("model.name=resnet999", ("resnet999",)),
        ("data.validation=0", ("data.validation", 'select = "last"')),
        ("data.name=digit", ("digit", "digits")),
    ],
)
def test_recipe_keys(kdcam, tmp_path: Path, override: str, said: tuple[str, ...]) -> None:
    refused(kdcam("train", "digits", "--set", override), *said)
    assert list(tmp_path.iterdir()) == []


def test_all_wrong_keys_are_named_at_once(kdcam) -> None:
    found = kdcam("train", "digits", "--set", "epochs=0", "--set", "optimizer.lr=-1", "--set", "data.root=x")
    refused(found, "3 problems", "epochs", "lr", "'root'")


def test_broken_toml(kdcam, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("epochs = \n")
    refused(kdcam("train", "broken.toml"), "broken.toml", "not valid TOML")
    refused(kdcam("train", "missing.toml"), "missing.toml", "cannot be read")


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "cpu:x:y"])
def test_unknown_device(kdcam, device: str, tmp_path: Path) -> None:
    refused(kdcam("train", "digits", "--device", device), f"--device {device}")
    assert list(tmp_path.iterdir()) == []


def test_missing_teacher(kdcam) -> None:
    refused(
        kdcam(
            "distill",
            "digits",
            "--teacher",
            "runs/nowhere",
            "--set",
            "loss.1.name=kd",
            "--set",
            "loss.1.start=0",
        ),
        "runs/nowhere",
        "is not there",
    )


def test_teacher_of_other_classes(kdcam, digits_run: Path, photo_recipe: Path) -> None:
    photo_recipe.write_text(photo_recipe.read_text() + '[[loss]]\nname = "kd"\n')
    refused(kdcam("distill", photo_recipe, "--teacher", digits_run), "10 classes", "2")


def test_corrupt_picture(kdcam, photos: Path, photo_recipe: Path) -> None:
    bad = photos / "cat" / "03.png"
    bad.write_bytes(bad.read_bytes()[:200])
    refused(kdcam("train", photo_recipe), "03.png", "on_bad_image")
    found = kdcam("train", photo_recipe, "--set", "data.on_bad_image=skip", "--output", "skipped")
    assert found.code == 0, found.err
    assert "03.png" in found.err


def test_empty_class_folder(kdcam, photos: Path, photo_recipe: Path, tmp_path: Path) -> None:
    (photos / "emu").mkdir()
    refused(kdcam("train", photo_recipe), "emu", "holds no file")
    assert not (tmp_path / "runs").exists()


def test_starting_weights_of_another_network(kdcam, digits_run: Path) -> None:
    weights = f"model.weights={digits_run}"
    refused(kdcam("train", "digits", "--set", weights, "--set", "model.name=kdcam:resnet20"), "model.weights")


def test_run_whose_config_names_another_network(kdcam, digits_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "copy"
    shutil.copytree(digits_run, run)
    config = json.loads((run / "config.json").read_text().replace("resnet8", "resnet20"))
    (run / "config.json").write_text(json.dumps(config))
    found = kdcam("evaluate", run)
    refused(found, str(run), "kdcam:resnet20")
    assert len(found.err.splitlines()) == 1


def test_pickled_checkpoint(kdcam, digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"\x80\x04")
    refused(kdcam("predict", "weights.pth", "image.png"), "weights.pth")


def test_output_that_is_a_file(kdcam, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    refused(kdcam("train", "digits", "--output", "taken"), "taken", "--output")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_output(kdcam, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o555)
    refused(kdcam("train", "digits", "--output", "locked/run"), "locked/run", "--output")


def test_nan_loss(kdcam) -> None:
    found = kdcam(
        "train", "digits", "--set", "optimizer.lr=1e30", "--set", "schedule.warmup_epochs=0", "--quiet"
    )
    assert found.code == 1
    assert "not finite" in found.err
    assert "cross_entropy" in found.err
