"""Commands that take files and names of networks in the place of runs; nothing is downloaded."""

from pathlib import Path

import pytest
import timm
import torch
from face_folders import face_folder

NAME = "test_resnet"  # timm's smallest with published weights


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm give random weights, the same each time, in the place of published ones."""
    real = timm.create_model

    def create(name: str, *, pretrained: bool = False, **options: object) -> torch.nn.Module:
        assert (name, pretrained) == (NAME, True)
        torch.manual_seed(0)
        return real(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr("kdcam.models.weights.download.is_answering", lambda address: True)


@pytest.fixture
def arguments(kdcam, photos: Path, tmp_path: Path) -> dict[str, list[object]]:
    """What each command is asked."""
    faces = face_folder(tmp_path / "faces", ["ann", "bob"], each=3)
    assert kdcam("make-pairs", faces, "-o", "pairs.txt", "--folds", 2).code == 0
    Path("boxes.csv").write_text("path,class,x0,y0,x1,y1\ncat/00.png,7,2,5,9,11\n")
    return {
        "few-shot": ["--root", photos, "--ways", 2, "--shots", 1, "--queries", 3, "--episodes", 5],
        "verify": ["--pairs", "pairs.txt", "--root", faces, "--no-flip"],
        "localize": ["--root", photos, "--boxes", "boxes.csv"],
    }


@pytest.mark.parametrize("command", ["few-shot", "verify", "localize"])
def test_a_name_takes_the_place_of_a_run(kdcam, command: str, arguments: dict[str, list[object]]) -> None:
    found = kdcam(command, NAME, *arguments[command])
    assert found.code == 0, found.err
    assert NAME in found.out
    assert not Path(NAME).exists()  # nothing is kept of a network that is no run
    help_text = " ".join(kdcam(command, "--help").out.replace("│", " ").split())
    assert "names of networks with published weights" in help_text
    missing = kdcam(command, "test_resne", *arguments[command])
    assert missing.code == 1
    assert "test_resne: there is no such folder or file, and as the name of a network" in missing.err
