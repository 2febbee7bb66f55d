import json
from pathlib import Path

from PIL import Image


def test_pictures_and_a_table(kdcam, digits_run: Path, photos: Path) -> None:
    found = kdcam("explain", digits_run, photos / "cat", photos / "dog" / "00.png", "--run", digits_run)
    assert found.code == 0, found.err
    files = sorted(Path("explain").iterdir())
    assert len(files) == 13
    assert {"cat-00.png", "dog-00.png", "01.png"} <= {file.name for file in files}
    assert found.out.count("runner-up") == 26
    assert found.out.count("%") == 52
    with Image.open(files[0]) as picture:
        assert picture.format == "PNG"


def test_options_reach_the_library(kdcam, digits_run: Path, photos: Path) -> None:
    options = ["--method", "hirescam", "--class", "7", "--class", "1", "--label", "7", "--scale", "row"]
    looks = ["--alpha", "1", "--colormap", "viridis", "-o", "maps", "--weights", "last"]
    found = kdcam("explain", digits_run, photos / "cat" / "00.png", *options, *looks, "--json")
    assert found.code == 0, found.err
    (document,) = json.loads(found.out)
    assert document["file"] == "maps/00.png"
    (run,) = document["runs"]
    assert (run["method"], run["label"]) == ("hirescam", "7")
    assert [shown["name"] for shown in run["maps"]] == ["7", "1"]
    assert "label" in run["maps"][0]["roles"]


def test_several_labels_an_image(kdcam, labels_run: Path, photos: Path) -> None:
    found = kdcam("explain", labels_run, photos / "cat" / "00.png", "--quiet")
    assert found.code == 0, found.err
    assert "highest" in found.out or "predicted" in found.out
    assert "runner-up" not in found.out


def test_what_is_wrong_is_one_line(kdcam, digits_run: Path, photos: Path) -> None:
    for arguments, said in (
        (["--class", "seven"], "class: found 'seven'"),
        (["--alpha", "2"], "alpha: found 2"),
        (["--colormap", "none"], "colormap: found 'none'"),
    ):
        found = kdcam("explain", digits_run, photos / "cat" / "00.png", *arguments)
        assert found.code == 1
        assert said in found.err
        assert found.out == ""
        assert len(found.err.splitlines()) == 1
    assert kdcam("explain", digits_run, photos, "--method", "lime").code == 2
