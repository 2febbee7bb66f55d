"""What training reads of a cached teacher, what is told, and what is refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cached_runs import (
    AUGMENTED,
    EVERY_NEED,
    KD,
    assert_read_equals_live,
    cached_plan,
    cached_recipe,
    told,
)
from small_runs import SCENES, Watcher, small_recipe
from torch import Tensor

import kdcam
from kdcam.engine import Plan
from kdcam.errors import CheckpointError, ModelError
from kdcam.models.classifier import TeacherOutputs, teacher_outputs
from kdcam.recipe import TrainRecipe
from kdcam.teacher_cache import caching
from kdcam.teacher_cache.caching import cache_teachers
from kdcam.teacher_cache.kept import teacher_needs


def test_every_output_is_what_the_live_teacher_says_of_the_same_views(teachers: list[str]) -> None:
    recipe = cached_recipe(teachers[0], loss=EVERY_NEED)
    assert len(teacher_needs(recipe)) == 6
    assert_read_equals_live(recipe)


def test_two_teachers_have_a_cache_each(teachers: list[str]) -> None:
    tables = [{"checkpoint": one, "cache": "views", "views": 2} for one in teachers]
    recipe = small_recipe(loss=[*KD, {"name": "caam_cam"}], data=AUGMENTED, teacher=tables)
    assert_read_equals_live(recipe)


def test_several_labels_an_image(tmp_path: Path) -> None:
    several = {"task": "multi-label", "data": {**AUGMENTED, "multi_label": True}}
    bce = {"name": "binary_cross_entropy"}
    run = kdcam.train(small_recipe(**several, loss=[bce]), output=tmp_path / "teacher", device="cpu")
    recipe = cached_recipe(str(run.path), loss=[bce, {"name": "caam_cam"}], **several)
    assert_read_equals_live(recipe)


def test_streamed_pictures(tmp_path: Path) -> None:
    recipe = picture_recipe(tmp_path)
    assert_read_equals_live(recipe)


def picture_recipe(folder: Path, *, workers: int = 0) -> TrainRecipe:
    """Return a recipe on pictures too large to hold, under a teacher of random weights."""
    from PIL import Image

    from kdcam.checkpoint import save_model
    from kdcam.models.build import ModelConfig, build_classifier

    random = torch.Generator().manual_seed(0)
    for name in ("cat", "dog"):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(9):
            pixels = torch.randint(0, 256, (80, 90, 3), dtype=torch.uint8, generator=random).numpy()
            Image.fromarray(pixels).save(folder / "photos" / name / f"{index}.png")
    teacher = build_classifier(
        ModelConfig(name="kdcam:resnet8"),
        num_classes=2,
        in_channels=3,
        image_size=72,
        label_names=["cat", "dog"],
    )
    save_model(folder / "teacher", teacher)
    data = {
        "name": "image-folder",
        "root": str(folder / "photos"),
        "image_size": 72,
        "augment": ["resized-crop", "flip"],
        "validation": 0.2,
        "workers": workers,
    }
    return cached_recipe(str(folder / "teacher"), data=data, batch_size=4, loss=[*KD, {"name": "caam_cam"}])


def test_the_teacher_is_not_called_in_training(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Plan] = []

    def and_then_broken(*arguments: Any) -> Plan:
        live = arguments[2]
        kept.append(cache_teachers(*arguments))
        for teacher in live.teachers:
            monkeypatch.setattr(teacher, "forward", refuse)
            monkeypatch.setattr(teacher, "outputs", refuse)
        return kept[-1]

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("the teacher was called")

    monkeypatch.setattr("kdcam.training.cache_teachers", and_then_broken)
    run = kdcam.distill(cached_recipe(teachers[0]), output=tmp_path / "run", device="cpu")
    assert run.result["last"]["test"]
    assert len(kept) == 1


def test_no_augmentation_keeps_one_view(teachers: list[str], tmp_path: Path) -> None:
    recipe = cached_recipe(teachers[0], tmp_path / "kept", data=SCENES)
    assert_read_equals_live(recipe)
    assert json.loads((tmp_path / "kept" / "cache.json").read_text())["key"]["views"] == 1


# --- What is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"teacher": 1}, r"teacher.weights is \"[0-9a-f]{11} \.\.\. there"),
        ({"data": {**AUGMENTED, "train_size": 64}}, r"data.images is 45 there, 48 here"),
        ({"data": {**AUGMENTED, "split_seed": 1}}, r"data.digest is"),
        ({"data": {**AUGMENTED, "image_size": 24}}, r"data.image_size is 16 there, 24 here"),
        (
            {"data": {**AUGMENTED, "augment": ["crop"]}},
            r'augment is \["crop", "flip"\] there, \["crop"\] here',
        ),
        ({"keys": {"views": 2}}, r"views is 4 there, 2 here"),
        ({"keys": {"views_seed": 7}}, r"views_seed is 0 there, 7 here"),
        ({"precision": "bf16"}, r'precision is "float32" there, "bfloat16" here'),
    ],
    ids=["teacher", "images", "split", "size", "augment", "views", "seed", "precision"],
)
def test_a_folder_with_the_cache_of_something_else_is_refused(
    teachers: list[str], tmp_path: Path, other: dict[str, Any], match: str
) -> None:
    cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))
    before = (tmp_path / "kept" / "cache.json").read_bytes()
    changes = dict(other)
    teacher = teachers[changes.pop("teacher", 0)]
    with pytest.raises(
        CheckpointError, match=rf"holds the cache of something else: {match}.*name another folder"
    ):
        cached_plan(cached_recipe(teacher, tmp_path / "kept", **changes))
    assert (tmp_path / "kept" / "cache.json").read_bytes() == before


def test_a_folder_of_other_files_is_refused(teachers: list[str]) -> None:
    with pytest.raises(
        CheckpointError, match=r"holds config.json but no cache.json, so it is no teacher's cache"
    ):
        cached_plan(cached_recipe(teachers[0], Path(teachers[1])))


def test_a_file_in_the_place_of_the_folder_is_refused(teachers: list[str], tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    with pytest.raises(CheckpointError, match=r"kept is a file; name a folder"):
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))


def test_a_folder_that_cannot_be_made_is_refused(teachers: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"teacher.cache_folder: .*name a folder that you may write to"):
        cached_plan(cached_recipe(teachers[0], tmp_path / "file" / "kept"))


def test_outputs_beyond_fp16_are_refused(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def huge(*arguments: Any) -> TeacherOutputs:
        outputs = teacher_outputs(*arguments)
        assert outputs.logits is not None
        return outputs._replace(logits=outputs.logits * 0 + 70_000)

    monkeypatch.setattr(caching, "teacher_outputs", huge)
    with pytest.raises(
        ModelError, match=r"teacher.logits reaches 7e\+04, and fp16 ends at 65504; set teacher.cache"
    ):
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))
    assert not list((tmp_path / "kept").glob("*.npy"))


# --- Size --------------------------------------------------------------------------------------------------


def test_the_size_is_told_before_and_right(teachers: list[str], tmp_path: Path) -> None:
    watcher = Watcher()
    cached_plan(cached_recipe(teachers[0], tmp_path / "kept", loss=EVERY_NEED), watcher)
    [text] = told(watcher)
    found = re.match(r"teacher cache: ([\d.,]+) MB \(", text)
    assert found is not None
    held = sum(file.stat().st_size for file in (tmp_path / "kept").iterdir())
    assert float(found[1].replace(",", "")) * 1e6 == pytest.approx(held, rel=0.05)
    assert str(tmp_path / "kept") in text


def test_a_disk_without_room_is_refused_before_anything_is_run(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    monkeypatch.setattr(caching, "teacher_outputs", lambda *_: pytest.fail("the teacher was run"))
    with pytest.raises(
        CheckpointError, match=r"has 0.000100 MB free, and the teacher's outputs take 0.00360 MB more"
    ):
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))
