"""What a cache refuses, in a sentence with the way out."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from cached_runs import (
    AUGMENTED,
    cached_plan,
    cached_recipe,
    picture_recipe,
    prepared,
    told,
)
from small_runs import Watcher

from kdcam.errors import CheckpointError, DataError, ModelError
from kdcam.models.classifier import TeacherOutputs, teacher_outputs
from kdcam.training.teachers import cached_teacher
from kdcam.training.teachers.cached_teacher import cache_teachers


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

    monkeypatch.setattr(cached_teacher, "teacher_outputs", huge)
    with pytest.raises(
        ModelError, match=r"teacher.logits reaches 7e\+04, and fp16 ends at 65504; set teacher.cache"
    ):
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))
    assert not list((tmp_path / "kept").glob("*.npy"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_outputs_that_are_no_number_are_refused(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def broken(*arguments: Any) -> TeacherOutputs:
        outputs = teacher_outputs(*arguments)
        assert outputs.logits is not None
        logits = outputs.logits.clone()
        logits[1:4:2, 0] = value  # none of the single image that shapes are measured on
        return outputs._replace(logits=logits)

    monkeypatch.setattr(cached_teacher, "teacher_outputs", broken)
    with pytest.raises(
        ModelError,
        match=r"^teacher.checkpoint: the teacher.logits of 2 of \d+ images are not finite \(NaN or infinite\): "
        r"training image 1, training image 3; .*set precision = \"fp32\"$",
    ):
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))


def test_a_lock_that_cannot_be_taken_is_told_without_a_word_of_output(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("kdcam.files.folder_lock._lock", refuse)
    with pytest.raises(
        CheckpointError,
        match=r"^teacher.cache_folder: \S* cannot be made or locked \(No locks available\); name a folder that you",
    ) as raised:
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))
    assert "--output" not in str(raised.value)


def test_a_changed_picture_is_refused_and_a_touched_or_copied_set_is_not(tmp_path: Path) -> None:
    recipe = picture_recipe(tmp_path, folder=tmp_path / "kept")
    cached_plan(recipe)
    shutil.copytree(tmp_path / "photos", tmp_path / "copied")
    copied = recipe.model_copy(update={"data": recipe.data.model_copy(update={"root": tmp_path / "copied"})})
    watcher = Watcher()
    cached_plan(copied, watcher)
    assert told(watcher) == []
    for picture in (tmp_path / "photos").rglob("*.png"):
        picture.write_bytes(picture.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match=r"holds the cache of something else: data.files is "):
        cached_plan(recipe)


def test_a_picture_that_is_cut_off_while_the_cache_is_made_is_named(tmp_path: Path) -> None:
    checked, parts, plan = prepared(picture_recipe(tmp_path, folder=tmp_path / "kept"))
    assert parts.train.paths is not None
    picture = parts.train.paths[3]
    picture.write_bytes(picture.read_bytes()[:-2000])
    with pytest.raises(DataError, match=rf"{picture.name}: truncated or damaged"):
        cache_teachers(checked, parts, plan, Watcher())
    assert json.loads((tmp_path / "kept" / "cache.json").read_text())["whole"] == {}
