"""What training reads of a cached teacher, and what is told."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from cached_runs import (
    AUGMENTED,
    EVERY_NEED,
    KD,
    assert_read_equals_live,
    cached_plan,
    cached_recipe,
    picture_recipe,
    prepared,
    told,
)
from small_runs import SCENES, Watcher, small_recipe
from torch import Tensor

import kdcam
from kdcam.data.batches.batch import Batches, Views
from kdcam.data.datasets import batches
from kdcam.errors import CheckpointError
from kdcam.runtime.machine import package_versions
from kdcam.training.engine import Plan
from kdcam.training.teachers import cached_teacher
from kdcam.training.teachers.cached_teacher import cache_forecast, cache_teachers, teacher_needs
from kdcam.training.teachers.live_teacher import live_classifiers


def test_every_output_is_what_the_live_teacher_says_of_the_same_views(teachers: list[str]) -> None:
    recipe = cached_recipe(teachers[0], loss=EVERY_NEED)
    assert len(teacher_needs(recipe)) == 7
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


def test_the_teacher_is_not_called_in_training(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Plan] = []

    def and_then_broken(*arguments: Any) -> Plan:
        live = arguments[2]
        kept.append(cache_teachers(*arguments))
        for teacher in live_classifiers(live.teachers):
            monkeypatch.setattr(teacher, "forward", refuse)
            monkeypatch.setattr(teacher, "outputs", refuse)
        return kept[-1]

    def refuse(*_: Any, **__: Any) -> Tensor:
        raise AssertionError("the teacher was called")

    monkeypatch.setattr("kdcam.training.training_run.cache_teachers", and_then_broken)
    run = kdcam.distill(cached_recipe(teachers[0]), output=tmp_path / "run", device="cpu")
    assert run.result["last"]["test"]
    assert len(kept) == 1


def test_no_augmentation_keeps_one_view(teachers: list[str], tmp_path: Path) -> None:
    recipe = cached_recipe(teachers[0], tmp_path / "kept", data=SCENES)
    assert_read_equals_live(recipe)
    assert json.loads((tmp_path / "kept" / "cache.json").read_text())["key"]["views"] == 1


# --- How it is made ----------------------------------------------------------------------------------------


def test_the_views_are_made_once_for_all_teachers_and_only_when_something_is_missing(
    teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [{"checkpoint": one, "cache": "views", "views": 2} for one in teachers]
    checked, parts, plan = prepared(cached_recipe("", teacher=tables))
    made: list[Views] = []

    def counted(*arguments: Any, **settings: Any) -> Batches:
        made.append(settings["views"])
        return batches(*arguments, **settings)

    monkeypatch.setattr(cached_teacher, "batches", counted)
    cache_teachers(checked, parts, plan, Watcher())
    assert made == [Views(2, 0)]
    cache_teachers(checked, parts, plan, Watcher())
    assert made == [Views(2, 0)]


def test_another_version_of_torch_is_a_warning(teachers: list[str], tmp_path: Path) -> None:
    recipe, index = cached_recipe(teachers[0], tmp_path / "kept"), tmp_path / "kept" / "cache.json"
    first, second = Watcher(), Watcher()
    cached_plan(recipe, first)
    record = json.loads(index.read_text())
    assert record["versions"]["torch"] == package_versions()["torch"]
    index.write_text(json.dumps({**record, "versions": {**record["versions"], "torch": "1.0"}}))
    cached_plan(recipe, second)
    assert first.warnings == []
    [warning] = second.warnings
    assert re.search(
        r"kept: torch was 1.0 when this teacher cache was begun and is .* remove the folder", warning
    )


def test_a_folder_below_the_users_own_is_found(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    recipe = cached_recipe(teachers[0], Path("~/kept"))
    cached_plan(recipe)
    assert (tmp_path / "kept" / "cache.json").is_file()
    assert str(tmp_path / "kept") in str(cache_forecast(prepared(recipe)[0]))


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
    monkeypatch.setattr(cached_teacher, "_outputs", lambda *_: pytest.fail("the teacher was run"))
    with pytest.raises(
        CheckpointError, match=r"has 0.000100 MB free, and the teacher's outputs take 0.00360 MB more"
    ):
        cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))


def test_what_a_killed_process_left_aside_counts_as_free(
    teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept").mkdir()
    for name in (".logits.npy.partial", ".embedding.npy.partial"):  # one is cut, one removed
        (tmp_path / "kept" / name).write_bytes(b"\0" * 2000)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    cached_plan(cached_recipe(teachers[0], tmp_path / "kept"))
    assert {file.name for file in (tmp_path / "kept").iterdir()} == {".lock", "cache.json", "logits.npy"}
