import json
import shutil
from pathlib import Path

from PIL import Image


def test_table_and_json(kdcam, digits_run: Path, photos: Path) -> None:
    images = sorted((photos / "cat").iterdir())[:2]
    found = kdcam("predict", digits_run, *images, "--top", 3)
    assert found.code == 0
    assert found.out.count("%") == 6
    document = json.loads(kdcam("predict", digits_run, *images, "--top", 99, "--json").out)
    assert [one["image"] for one in document] == [str(image) for image in images]
    assert {one["task"] for one in document} == {"single-label"}
    scores = [entry["score"] for entry in document[0]["classes"]]
    assert len(scores) == 10
    assert scores == sorted(scores, reverse=True)
    assert abs(sum(scores) - 1) < 1e-5


def test_a_weight_file_does_as_well(kdcam, digits_run: Path, photos: Path) -> None:
    image = photos / "cat" / "00.png"
    assert (
        kdcam("predict", digits_run / "model.safetensors", image).out
        == kdcam("predict", digits_run, image).out
    )


def test_broken_pictures_are_named(kdcam, digits_run: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "empty.png").touch()
    for name in ("bad.png", "empty.png", "missing.png"):
        found = kdcam("predict", digits_run, "good.png", name)
        assert found.code == 1
        assert name in found.err
        assert found.out == ""
        assert len(found.err.splitlines()) == 1


def test_a_folder_of_pictures(kdcam, digits_run: Path, photos: Path) -> None:
    document = json.loads(kdcam("predict", digits_run, photos / "cat", "--json").out)
    assert [one["image"] for one in document] == [str(path) for path in sorted((photos / "cat").iterdir())]


def test_other_files_and_broken_pictures_of_a_folder_are_left_out(
    kdcam, digits_run: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "cat", tmp_path / "mixed")
    names = sorted(path.name for path in (photos / "cat").iterdir())
    (tmp_path / "mixed" / "readme.txt").write_text("mine")
    (tmp_path / "mixed" / names[0]).write_bytes(b"no picture")
    found = kdcam("predict", digits_run, "mixed", "--json")
    assert found.code == 0
    assert [Path(one["image"]).name for one in json.loads(found.out)] == names[1:]
    notice, warning = found.err.splitlines()
    assert notice == "mixed: 1 files that are no pictures by their names are left out"
    assert warning.startswith(
        f"warning: 1 of {len(names)} files cannot be read as pictures: mixed/{names[0]}: "
    )
    assert kdcam("predict", digits_run, "mixed/readme.txt").code == 1
    explained = kdcam("explain", digits_run, "mixed", "--method", "gradcam", "-q")
    assert explained.code == 0
    assert explained.err.count("files cannot be read") == 1
    assert len(list((tmp_path / "explain").iterdir())) == len(names) - 1


def test_several_labels_an_image(kdcam, labels_run: Path, photos: Path) -> None:
    image = photos / "cat" / "00.png"
    [one] = json.loads(kdcam("predict", labels_run, image, "--top", 10, "--json").out)
    assert one["task"] == "multi-label"
    scores = [entry["score"] for entry in one["classes"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) > 1.5  # a probability for each class, near 0.5 after so little training
    table = kdcam("predict", labels_run, image, "--top", 2)
    assert "score" in table.out
    assert table.out.count("%") == 2
