import json
from pathlib import Path

import torch


def test_a_file_for_torch(kdcam, digits_run: Path, tmp_path: Path) -> None:
    found = kdcam("export", digits_run, "--format", "torch-export", "--output", "digits.pt2")
    assert found.code == 0, found.err
    assert found.out.splitlines()[-1] == 'load it with torch.export.load("digits.pt2").module()'
    logits = torch.export.load("digits.pt2").module()(torch.rand(7, 1, 8, 8))
    assert logits.shape == (7, 10)


def test_json(kdcam, labels_run: Path) -> None:
    found = kdcam("export", labels_run, "--format", "torch-export", "-o", "labels.pt2", "--json")
    assert found.code == 0, found.err
    document = json.loads(found.out)
    assert document.keys() == {"path", "format", "images", "largest_difference", "change"}
    assert document["images"] == [1, 16, 16]


def test_what_cannot_be_done_is_one_line(kdcam, digits_run: Path) -> None:
    Path("there.pt2").touch()
    for form, output, said in (
        ("timm", "folder", "'kdcam:resnet8' is no network of timm's"),
        ("torch-export", "there.pt2", "--output"),
        ("torch-export", "there.pt", ".pt2"),
    ):
        found = kdcam("export", digits_run, "--format", form, "--output", output)
        assert found.code == 1
        assert said in found.err
        assert found.out == ""
        assert len(found.err.splitlines()) == 1
    assert kdcam("export", digits_run, "--format", "tflite", "--output", "x").code == 2
    assert kdcam("export", digits_run, "--format", "timm").code == 2
