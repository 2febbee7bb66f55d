"""Tests of kdcam.evaluation.localization.localization_evaluation and what it puts together: opening, report and
pictures."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import SCENES, Watcher, small_recipe

import kdcam
from kdcam.cam.map_pictures import to_picture
from kdcam.comparison.table.run_measures import read_evaluations
from kdcam.errors import CheckpointError, DataError, Interrupted, RecipeError
from kdcam.evaluation.localization.localization_evaluation import BoxOutline, with_outlines
from kdcam.evaluation.localization.localization_schema import localization_settings
from kdcam.evaluation.localization.prepared_runs import RunPreparer
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.runs.checkpoint import save_model
from kdcam.runs.open_run import load_run

HEAD = "path,x0,y0,x1,y1\n"
OPTIONS = {"weights": "selected", "batch_size": 16, "device": "cpu", "progress": Watcher()}


def copied(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder / run.name)
    return folder / run.name


def test_the_result_lies_beside_the_run(scenes_runs: dict[str, Path]) -> None:
    run = scenes_runs["one"]
    (found,) = kdcam.localize(run, device="cpu")
    written = json.loads((run / "localization.json").read_text())
    assert written == json.loads(json.dumps(found.to_json()))
    assert set(written["headline"]) == {"max_box_acc_v2", "max_box_acc_v1", "pointing", "energy"}
    assert all(0 <= value <= 1 for value in written["headline"].values())
    assert (written["images"], written["maps"], written["resolution"], written["map"]) == (20, 20, 16, "cam")
    assert [one["overlap"] for one in written["best_box"]] == [0.3, 0.5, 0.7]
    assert "on the evaluated images themselves" in written["threshold_rule"]
    assert "connected also by corners" in written["contour_rule"]


def test_it_agrees_with_the_pointing_game_of_the_quickstart(scenes_runs: dict[str, Path]) -> None:
    from kdcam.evaluation.localization.localization_measurement import pointing_scores

    loaded = load_run(scenes_runs["one"], device="cpu")
    test = loaded.part("test")
    expected = pointing_scores(loaded.classifier, loaded.batches(test), test.boxes)
    for kind, share in (("cam", expected.label_cam), ("caam", expected.caam)):
        (found,) = kdcam.localize(scenes_runs["one"], settings={"map": kind}, device="cpu")
        assert found.report.pointing == share


def test_several_runs_and_several_labels(scenes_runs: dict[str, Path]) -> None:
    found = kdcam.localize([scenes_runs[name] for name in ("one", "other", "labels")], device="cpu")
    assert [run.run for run in found] == list(scenes_runs.values())
    assert len({run.model for run in found}) == 3
    assert [run.report.images for run in found] == [20] * 3
    assert found[2].report.maps > 20  # a map for each digit of a scene
    with pytest.raises(RecipeError, match=r"localize\.map_of \(--map-of\): .*labels has several labels"):
        kdcam.localize(list(scenes_runs.values()), settings={"map_of": "predicted"}, device="cpu")


def test_thresholds_of_the_validation_part(scenes_runs: dict[str, Path]) -> None:
    run = scenes_runs["one"]
    own = kdcam.localize(run, device="cpu")[0].report
    validation = kdcam.localize(run, settings={"part": "validation"}, device="cpu")[0].report
    taken = kdcam.localize(run, settings={"threshold_from": "validation"}, device="cpu")[0].report
    assert [one.threshold for one in taken.max_box.best_box] == [
        one.threshold for one in validation.max_box.best_box
    ]
    assert [one.threshold for one in taken.max_box.best_box] != [
        one.threshold for one in own.max_box.best_box
    ]
    assert taken.max_box.v2 <= own.max_box.v2
    assert taken.pointing == own.pointing
    assert "on the validation part" in taken.threshold_rule


def test_some_images_show_all_classes(scenes_runs: dict[str, Path]) -> None:
    (found,) = kdcam.localize(scenes_runs["one"], settings={"n_examples": 10}, device="cpu")
    assert found.report.images == 10


def test_boxes_of_a_file_for_the_runs_own_pictures(photos: Path, photo_run: Path) -> None:
    (found,) = kdcam.localize(photo_run, settings={"boxes": photos / "boxes.csv"}, device="cpu")
    assert (found.report.images, found.report.resolution) == (16, 224)
    assert found.report.left_out == (found.report.left_out.__class__)(0, 0, 0, 0)


def test_pictures_that_the_boxes_name_need_no_run(photos: Path, photo_run: Path, tmp_path: Path) -> None:
    settings = {"boxes": photos / "boxes.csv", "root": photos}
    (found,) = kdcam.localize(photo_run, settings=settings, device="cpu")
    part = kdcam.localize(photo_run, settings={"boxes": photos / "boxes.csv"}, device="cpu")[0]
    assert found.report.headline() == pytest.approx(part.report.headline())
    torch.manual_seed(0)
    network = build_classifier(
        ModelConfig(name="kdcam:resnet8"),
        num_classes=2,
        in_channels=3,
        image_size=32,
        label_names=("dark", "light"),
    )
    save_model(tmp_path / "bare", network)
    (found,) = kdcam.localize(tmp_path / "bare", settings={**settings, "n_examples": 6}, device="cpu")
    assert found.report.images == 6
    assert not (tmp_path / "bare" / "localization.json").exists()


def test_a_network_without_an_exact_cam_is_told(photos: Path, tmp_path: Path) -> None:
    config = ModelConfig(name="mobilenetv3_small_050")
    names = ("dark", "light")
    save_model(
        tmp_path / "net",
        build_classifier(config, num_classes=2, in_channels=3, image_size=64, label_names=names),
    )
    watcher = Watcher()
    settings = {"boxes": photos / "boxes.csv", "root": photos, "resolution": 32}
    (found,) = kdcam.localize(tmp_path / "net", settings=settings, device="cpu", progress=watcher)
    assert found.report.map == "gradcam"
    assert "no exact class activation map, so gradcam is measured instead of cam" in watcher.warnings[0]


def test_what_is_wrong_is_named_before_anything_is_measured(
    photos: Path, photo_run: Path, scenes_runs: dict[str, Path], tmp_path: Path
) -> None:
    def said(runs, match: str, error=DataError, **settings) -> None:
        with pytest.raises(error, match=match):
            kdcam.localize(runs, settings=settings, device="cpu")

    said(photo_run, r"photos: its data knows no boxes of its test images; name a file of them with --boxes")
    said(scenes_runs["one"], r"images are no picture files", boxes=photos / "boxes.csv")
    said(photo_run, r"no picture of the part has a box", boxes=photos / "boxes.csv", part="validation")
    said(photo_run, r"cannot be read", boxes=tmp_path / "no.csv")
    said([scenes_runs["one"], tmp_path], r"holds no recipe\.json", CheckpointError)
    outside = tmp_path / "outside.csv"
    outside.write_text(HEAD + "test/dark/0.png,0,0,25,5\n")
    said(photo_run, r"outside\.csv, line 2: the box 0, 0, 25, 5 reaches outside", boxes=outside)
    (tmp_path / "file").touch()
    watcher = Watcher()
    with pytest.raises(CheckpointError, match=r"figures: no picture can be written there .* with --figures$"):
        kdcam.localize(
            scenes_runs["one"], figures=tmp_path / "file" / "figures", device="cpu", progress=watcher
        )
    assert not [task for task, _, _ in watcher.done if "drawing" not in task]  # the data is read first


def test_nothing_is_written_when_it_is_stopped_in_a_later_run(
    scenes_runs: dict[str, Path], tmp_path: Path
) -> None:
    runs = [copied(scenes_runs[name], tmp_path) for name in ("one", "other")]
    for run in runs:
        (run / "localization.json").unlink(missing_ok=True)
    with pytest.raises(Interrupted, match=r"nothing of it is kept"):
        kdcam.localize(runs, batch_size=10, device="cpu", progress=Watcher(stop_after=3))
    assert not any((run / "localization.json").exists() for run in runs)


def test_a_result_that_cannot_be_written_and_a_picture_that_breaks_off(
    scenes_runs: dict[str, Path], photos: Path, photo_run: Path, tmp_path: Path
) -> None:
    run = copied(scenes_runs["one"], tmp_path)
    (run / "localization.json").unlink(missing_ok=True)
    (run / "localization.json").mkdir()
    with pytest.raises(
        CheckpointError, match=r"localization\.json: cannot be written \(Is a dir.*a copy of it$"
    ):
        kdcam.localize(run, device="cpu")
    whole = (photos / "test/dark/0.png").read_bytes()
    (tmp_path / "dark").mkdir()
    (tmp_path / "dark" / "0.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.csv").write_text(HEAD + "dark/0.png,0,4,9,14\n")
    with pytest.raises(DataError, match=r"0\.png: truncated or damaged"):
        kdcam.localize(photo_run, settings={"boxes": tmp_path / "b.csv", "root": tmp_path}, device="cpu")


def test_runs_of_unlike_image_sizes_in_one_picture(scenes_runs: dict[str, Path], tmp_path: Path) -> None:
    small = {**SCENES, "image_size": 24}
    other = kdcam.train(small_recipe(epochs=1, data=small), output=tmp_path / "other", device="cpu").path
    found = kdcam.localize([scenes_runs["one"], other], device="cpu", figures=tmp_path)
    assert [run.report.resolution for run in found] == [16, 24]
    first, second = (read_evaluations(run.run).found["localization"].facts for run in found)
    assert first != second
    with Image.open(tmp_path / "localization.png") as picture:
        assert picture.size[0] == 6 * 168 + 5 * 4


def test_a_picture_of_boxes(scenes_runs: dict[str, Path], tmp_path: Path) -> None:
    watcher = Watcher()
    runs = [scenes_runs["one"], scenes_runs["other"]]
    kdcam.localize(runs, device="cpu", figures=tmp_path / "figures", progress=watcher)
    with Image.open(tmp_path / "figures" / "localization.png") as picture:
        assert picture.size[0] == 6 * 160 + 5 * 4
        shown = np.asarray(picture)
    prepared = RunPreparer(localization_settings({}), **OPTIONS).prepare(runs[0])
    x0, y0, x1, y1 = (10 * prepared.evaluated.boxes.boxes[0, 0]).round().int().tolist()  # 16 pixels are 160
    blue = (shown == (87, 181, 232)).all(2)
    top = shown.shape[0] // 2 - 2 - 160  # below the first row's words
    drawn = blue[top : top + 160, :160] | (shown == (0, 158, 115)).all(2)[top : top + 160, :160]
    assert drawn[y0:y1, x0].all()  # the object's box is blue, where the one found does not lie over it
    assert blue[:, :160].any()
    rows, columns = np.nonzero(blue[top : top + 160, :160])
    assert y0 <= rows.min() <= rows.max() < y1
    assert x0 <= columns.min() <= columns.max() < x1
    assert (shown == (0, 158, 115)).all(2).any()
    assert "localization.png" in watcher.messages[-1]


def test_each_run_keeps_a_picture_of_its_own(
    scenes_runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [copied(scenes_runs[name], tmp_path / "runs") for name in ("one", "other")]
    pictures = [run / "figures" / "localization.png" for run in runs]
    monkeypatch.setenv("HOME", str(tmp_path))
    kdcam.localize(runs, device="cpu", figures="~/both")
    with Image.open(pictures[0]) as one, Image.open(tmp_path / "both" / "localization.png") as both:
        assert both.size == (one.size[0], 2 * one.size[1] + 4)
    assert pictures[0].read_bytes() != pictures[1].read_bytes()
    kdcam.localize(runs[0], settings={"map": "hirescam"}, device="cpu", draw=False)
    assert [picture.exists() for picture in pictures] == [False, True]  # it was of earlier numbers
    pictures[0].mkdir()
    watcher = Watcher()
    with pytest.raises(CheckpointError, match=r"localization\.png: is a folder"):
        kdcam.localize(runs[0], device="cpu", progress=watcher)
    assert not [task for task, _, _ in watcher.done if "drawing" not in task]


def test_outlines_lie_at_the_borders_of_their_boxes() -> None:
    drawn = with_outlines(
        to_picture(torch.zeros(1, 20, 20)), [BoxOutline((0.25, 0.5, 0.75, 1.0), (1.0, 0.5, 0.0))]
    )
    rows, columns = np.nonzero(drawn[0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 19, 5, 14)
    assert drawn[0, 14, 9] == 0  # the middle stays
    assert drawn[:, 10, 5].tolist() == [1.0, 0.5, 0.0]
