import json
from pathlib import Path

import pytest
from small_runs import SCENES, small_recipe


@pytest.fixture(scope="module")
def scenes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import kdcam as library

    return library.train(small_recipe(epochs=1), output=tmp_path_factory.mktemp("runs") / "scenes-0").path


def test_a_row_a_run_and_how_it_was_found(kdcam, scenes_run: Path) -> None:
    found = kdcam("localize", scenes_run, scenes_run, "--figures", "figures", "--device", "cpu")
    assert found.code == 0, found.err
    lines = found.out.splitlines()
    assert all(name in lines[0] for name in ("MaxBoxAccV2", "at 30%", "at 50%", "at 70%", "V1", "pointing"))
    assert sum(line.lstrip().startswith(str(scenes_run)) for line in lines) == 2
    assert "on the evaluated images themselves" in found.out
    assert "holes in regions are not looked at" in found.out
    assert Path("figures/localization.png").exists()
    assert (scenes_run / "localization.json").exists()


def test_options_reach_the_library(kdcam, scenes_run: Path) -> None:
    options = [
        "--map",
        "gradcam",
        "--map-of",
        "predicted",
        "--threshold-from",
        "validation",
        "--n-examples",
        "10",
    ]
    more = [
        "--resolution",
        "20",
        "--contours",
        "wsol",
        "--part",
        "test",
        "--weights",
        "last",
        "--batch-size",
        "7",
    ]
    found = kdcam("localize", scenes_run, *options, *more, "--json", "--quiet")
    assert found.code == 0, found.err
    (document,) = json.loads(found.out)
    assert (
        document["settings"]
        | {
            "map": "gradcam",
            "map_of": "predicted",
            "threshold_from": "validation",
            "n_examples": 10,
            "resolution": 20,
            "contours": "wsol",
            "part": "test",
        }
        == document["settings"]
    )
    assert (document["weights"], document["images"], document["resolution"]) == ("last", 10, 20)
    kept = json.loads((scenes_run / "localization.json").read_text())
    assert kept == {name: value for name, value in document.items() if name != "run"}


def test_pictures_with_a_boxes_file(kdcam, digits_run: Path, photos: Path) -> None:
    Path("boxes.csv").write_text("path,kind,x0,y0,x1,y1\ncat/00.png,7,2,5,9,11\ndog/01.png,1,0,0,19,1\n")
    options = ["--boxes", "boxes.csv", "--root", photos, "--box-ends", "inclusive", "--class-column", "kind"]
    found = kdcam("localize", digits_run, *options, "--json")
    assert found.code == 0, found.err
    (document,) = json.loads(found.out)
    assert (document["images"], document["left_out"]["cut_away"]) == (
        1,
        1,
    )  # the second lies above the middle square


def test_what_is_left_out_is_told(kdcam, digits_run: Path, photos: Path) -> None:
    Path("boxes.csv").write_text("path,class,x0,y0,x1,y1\ncat/00.png,7,2,5,9,11\ndog/01.png,1,0,0,20,2\n")
    found = kdcam("localize", digits_run, "--boxes", "boxes.csv", "--root", photos)
    assert found.code == 0, found.err
    assert f"{digits_run}: 1 images whose objects lie outside the middle square" in found.out


def test_what_differs_between_runs_is_told_of_each(kdcam, scenes_run: Path, tmp_path: Path) -> None:
    import kdcam as library

    recipe = small_recipe(epochs=1, data={**SCENES, "image_size": 24})
    other = library.train(recipe, output=tmp_path / "larger").path
    found = kdcam("localize", scenes_run, other)
    assert found.code == 0, found.err
    told = " ".join(found.out.split())
    for run, size in ((scenes_run, 16), (other, 24)):
        place = told.index(f"{run}: thresholds (> share of the map's maximum): best of all")
        assert f"maps at {size} pixels" in told[place : place + 400]
    assert told.count("boxes: a box round each region") == 1


def test_what_is_wrong_is_one_line(kdcam, digits_run: Path, scenes_run: Path, photos: Path) -> None:
    Path("boxes.csv").write_text("path,x0,y0,x1,y1\ncat/00.png,0,0,21,9\n")
    Path("missing.csv").write_text("path,x0,y0,x1,y1\ncat/77.png,0,0,21,9\n")
    for arguments, said in (
        ([digits_run], "its data knows no boxes of its test images"),
        ([scenes_run, "--box-ends", "inclusive"], "box_ends (--box-ends) says how boxes of a file are read"),
        (["resnet18"], "resnet18: holds no recipe.json, so it is no run folder; name one"),
        ([scenes_run, "--root", photos], "name the file with boxes (--boxes)"),
        (
            [digits_run, "--boxes", "boxes.csv", "--root", photos, "--class-column", "kind"],
            "no column 'kind'",
        ),
        ([digits_run, "--boxes", "boxes.csv", "--root", photos], "found class 'cat'"),
        (
            [digits_run, "--boxes", "missing.csv", "--root", photos],
            "line 2: there is no picture 'cat/77.png'",
        ),
        (
            [scenes_run, "--map", "caam", "--map-of", "predicted"],
            "map_of (--map-of) = predicted does nothing",
        ),
        ([scenes_run, "--resolution", "4"], "localize.resolution (--resolution): "),
    ):
        found = kdcam("localize", *arguments)
        assert found.code == 1
        assert said in found.err
        assert found.out == ""
        assert len(found.err.splitlines()) == 1
    assert kdcam("localize", scenes_run, "--map", "lime").code == 2
