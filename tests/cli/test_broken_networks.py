"""What commands say of a network whose outputs are no numbers: one line, exit 1, and never a score of class 0."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kdcam.models.weights.safetensors_files import read_tensors_file


@pytest.fixture(params=["nan", "-inf"])
def broken_run(digits_run: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A run in whose weights one number is none: NaN in the classifier, or an infinite bias."""
    run = tmp_path / "broken"
    shutil.copytree(digits_run, run)
    path = run / "model.safetensors"
    tensors, metadata, _ = read_tensors_file(path)
    kind = "fc.weight" if request.param == "nan" else "fc.bias"
    (broken,) = (tensor for name, tensor in tensors.items() if name.endswith(kind))
    with torch.no_grad():
        broken.view(-1)[0] = float(request.param)
    save_file(tensors, path, metadata=metadata)
    return run


@pytest.fixture
def picture(photos: Path) -> Path:
    return next(photos.rglob("*.png"))


def refused(found, *words: str) -> None:
    assert found.code == 1, found.out
    assert "are not finite (NaN or infinite)" in found.err
    assert "Traceback" not in found.err
    for word in words:
        assert word in found.err


def test_scores(kdcam, broken_run: Path) -> None:
    found = kdcam("evaluate", broken_run, "--json")
    refused(found, "broken, test part: the logits of 497 of 497 images")
    assert found.out == ""


def test_attacks_and_sections(kdcam, broken_run: Path) -> None:
    found = kdcam("evaluate-robustness", broken_run, "--n-examples", 8, "-q")
    refused(found, f"{broken_run}: ", "the logits of 8 of 8 images")
    options = ("--attacks", "none", "--calibration")
    refused(
        kdcam("evaluate-robustness", broken_run, *options, "-q"), "test part: the logits of 497 of 497 images"
    )
    assert not (broken_run / "figures").exists()


def test_a_broken_source(kdcam, digits_run: Path, broken_run: Path, tmp_path: Path) -> None:
    shutil.copytree(digits_run, run := tmp_path / "good")
    found = kdcam("evaluate-robustness", run, "--source", broken_run, "--n-examples", 8, "-q")
    refused(found, f"{run} with source {broken_run}: ", "images are not finite")


def test_pictures(kdcam, broken_run: Path, picture: Path, tmp_path: Path) -> None:
    refused(kdcam("predict", broken_run, picture), "the logits of 1 of 1 images", picture.name)
    for method in ("cam", "gradcam"):
        output = tmp_path / method
        refused(kdcam("explain", broken_run, picture, "--method", method, "--output", output), picture.name)
        assert not list(output.glob("*.png"))


def test_teachers(kdcam, broken_run: Path, tmp_path: Path) -> None:
    for number, settings in enumerate(((), ("--set", 'teacher.cache="views"'))):
        options = ("--method", "kd", "--teacher", broken_run, "--set", "epochs=1", *settings)
        found = kdcam("distill", "digits", *options, "--output", tmp_path / f"run-{number}", "-q")
        refused(found, "broken, validation part: the logits of 130 of 130 images")


@pytest.mark.parametrize(("form", "name"), [("onnx", "network.onnx"), ("torch-export", "network.pt2")])
def test_exports(kdcam, broken_run: Path, tmp_path: Path, form: str, name: str) -> None:
    found = kdcam("export", broken_run, "--format", form, "--output", tmp_path / name)
    refused(found, "the logits of 1 of 1 images", "take other weights")
    assert not (tmp_path / name).exists()
