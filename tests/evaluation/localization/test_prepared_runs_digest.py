"""Tests of kdcam.evaluation.localization.prepared_runs: which results answer the same question."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import kdcam
from kdcam.comparison.table.run_measures import read_evaluations
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.object_boxes import boxes_of_source
from kdcam.evaluation.localization.prepared_runs import evaluated_digest
from kdcam.runs.open_run import load_run


def copied(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder / run.name)
    return folder / run.name


def facts(run: Path, **settings: object) -> str:
    """Return what `kdcam compare` holds against other runs' of a localization.json that is written now."""
    kdcam.localize(run, settings=settings, device="cpu")
    return read_evaluations(run).found["localization"].facts


def test_results_of_other_boxes_are_another_question(
    photos: Path, photo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, boxes = copied(photo_run, tmp_path).resolve(), tmp_path / "b.csv"
    rows = (photos / "boxes.csv").read_text().splitlines()
    boxes.write_text("\n".join(rows))
    options = {"boxes": boxes, "root": photos}
    before = facts(run, **options)
    assert facts(run, boxes=boxes) == before  # the same pictures as the run's own test part
    assert facts(run, **options, resolution=224) == before
    assert facts(run, **options, resolution=48) != before
    monkeypatch.chdir(tmp_path)
    assert facts(run, boxes="b.csv", root=photos) == before
    path, *corners = rows[1].split(",")
    boxes.write_text(
        "\n".join([rows[0], ",".join([path, str(int(corners[0]) - 1), *corners[1:]]), *rows[2:]])
    )
    assert facts(run, **options) != before
    boxes.write_text("\n".join([rows[0], *rows[:0:-1]]))
    assert facts(run, **options) == before
    boxes.write_text("\n".join(rows[:-1]))
    assert facts(run, **options) != before


def test_other_pixels_are_another_question(scenes_runs: dict[str, Path], tmp_path: Path) -> None:
    run = copied(scenes_runs["one"], tmp_path)
    before = facts(run)
    assert facts(run, part="test") == before
    assert facts(run, n_examples=10) != before
    part = load_run(run, device="cpu").part("test")
    boxes = boxes_of_source(part)
    assert boxes is not None
    changed = replace(part, images=ResidentImages(part.images.pixels ^ 1, image_size=16))
    assert evaluated_digest(changed, boxes) != evaluated_digest(part, boxes)
    classes = boxes._replace(classes=boxes.classes.flip(0))
    assert evaluated_digest(part, classes) != evaluated_digest(part, boxes)
