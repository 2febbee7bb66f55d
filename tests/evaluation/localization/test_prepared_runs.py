"""Tests of kdcam.evaluation.localization.prepared_runs."""

import shutil
from pathlib import Path

import pytest
import torch
from small_runs import SCENES, Watcher, small_recipe

import kdcam
from kdcam.data.box_files import read_boxes
from kdcam.data.object_boxes import boxes_of_part
from kdcam.evaluation.localization.localization_measurement import located_batches
from kdcam.evaluation.localization.localization_schema import localization_settings
from kdcam.evaluation.localization.prepared_runs import RunPreparer
from kdcam.runs.open_run import load_run

OPTIONS = {"weights": "selected", "batch_size": 16, "device": "cpu", "progress": Watcher()}


def test_images_and_boxes_stay_together_when_only_some_are_taken(
    scenes_runs: dict[str, Path], photos: Path, photo_run: Path, tmp_path: Path
) -> None:
    rows = (photos / "boxes.csv").read_text().splitlines()
    some = tmp_path / "some.csv"
    some.write_text("\n".join([rows[0], *rows[:0:-3]]))  # every third picture, the last ones first
    for run, settings, images in (
        (scenes_runs["one"], {"n_examples": 7}, 7),
        (photo_run, {"boxes": some}, 6),
        (photo_run, {"boxes": some, "n_examples": 4}, 4),
        (photo_run, {"boxes": some, "root": photos, "n_examples": 4}, 4),
    ):
        loaded = load_run(run, device="cpu")
        test = loaded.part("test")
        (whole,) = loaded.batches(test, batch_size=100).epoch(0)
        known = test.boxes
        if known is None:
            every = boxes_of_part(
                read_boxes(photos / "boxes.csv"), test, root=photos, label_names=loaded.parts.label_names
            )
            known = every.boxes[:, 0]
        prepared = RunPreparer(localization_settings(settings), **OPTIONS | {"batch_size": 3}).prepare(run)
        located = list(located_batches(prepared.classifier, prepared.evaluated, prepared.options))
        shown = torch.cat([one.images for one in located])
        boxes = torch.cat([one.boxes for one in located])[:, 0]
        assert len(shown) == images
        classes = set()
        for image, box, number in zip(shown, boxes, prepared.evaluated.boxes.classes.tolist(), strict=True):
            (place,) = [k for k, one in enumerate(whole.images) if torch.equal(one, image)]
            assert torch.equal(known[place].double(), box)
            assert int(test.targets[place]) == number
            classes.add(number)
        assert len(classes) == min(images, len(test.targets.unique()))


def test_of_noisy_training_labels_those_before_noise_count(tmp_path: Path) -> None:
    noisy = {**SCENES, "noise": {"kind": "symmetric", "rate": 0.6, "seed": 0}}
    runs = [
        kdcam.train(small_recipe(epochs=1, data=data), output=tmp_path / name, device="cpu").path
        for name, data in (("noisy", noisy), ("clean", SCENES))
    ]
    shutil.copy(runs[0] / "model.safetensors", runs[1])
    watcher = Watcher()
    settings = {"part": "train"}
    first, second = kdcam.localize(runs, settings=settings, device="cpu", progress=watcher)
    assert first.model == second.model
    assert first.report == second.report
    assert any(
        "its training labels are noisy; the maps measured are those" in text for text in watcher.messages
    )


@pytest.mark.parametrize("settings", [{"map_of": "predicted"}, {"map": "caam"}])
def test_a_map_of_no_boxs_class_is_held_against_all_boxes_of_its_image(
    photos: Path, photo_run: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    boxes = tmp_path / "two.csv"
    picture = "test/dark/0.png"
    boxes.write_text(f"path,class,x0,y0,x1,y1\n{picture},dark,0,4,12,16\n{picture},light,12,16,24,28\n")
    options = {"boxes": boxes, "root": photos}
    (found,) = kdcam.localize(photo_run, settings=options | settings, device="cpu", figures=tmp_path)
    assert (found.report.images, found.report.maps) == (1, 1)
    assert found.to_json()["evaluated"]["boxes"] == 2
    assert kdcam.localize(photo_run, settings=options, device="cpu")[0].report.maps == 2
    prepared = RunPreparer(localization_settings(options | settings), **OPTIONS).prepare(photo_run)
    assert prepared.evaluated.boxes.boxes.shape == (1, 2, 4)


def test_runs_of_one_data_set_share_its_images(scenes_runs: dict[str, Path]) -> None:
    preparer = RunPreparer(localization_settings({}), **OPTIONS)
    one, other = (preparer.prepare(scenes_runs[name]).evaluated for name in ("one", "other"))
    assert one.boxes is other.boxes
