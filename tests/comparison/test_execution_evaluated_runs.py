"""Runs that were evaluated after a comparison made them join its table."""

from pathlib import Path

import pytest

import kdcam
from kdcam.files.json_files import read_json

pytestmark = pytest.mark.usefixtures("forked_workers")

_RECIPE = """
epochs = 1
batch_size = 16
[data]
name = "digit-scenes"
image_size = 16
train_size = 150
test_size = 40
validation = 0.25
[data.class_split]
novel = 3
seed = 1
[model]
name = "kdcam:resnet8_s2"
"""


def test_few_shot_and_localization_join_the_table(tmp_path: Path) -> None:
    (tmp_path / "split.toml").write_text(_RECIPE)
    wanted = {
        "base": str(tmp_path / "split.toml"),
        "losses": ["cam"],
        "seeds": [0],
        "output": tmp_path / "out",
    }
    kdcam.compare(**wanted)
    runs = sorted(path for path in (tmp_path / "out" / "runs").iterdir() if path.is_dir())
    assert len(runs) == 2
    few = {"ways": 3, "shots": [1], "queries": 3, "episodes": 20, "heads": ["prototype"]}
    reports = kdcam.evaluate_few_shot(runs, settings=few)
    kdcam.localize(runs[:1])
    found = kdcam.compare(**wanted)
    name = "few-shot/3-way 1-shot prototype"
    by_folder = {f"{row.folder}-0": row for row in found.rows}
    for report in reports:
        score = by_folder[report.run.name].evaluations[name]
        assert score.summary.mean == pytest.approx(report.scores[0].accuracy.mean)
    base, other = found.rows
    difference = other.evaluations[name].difference
    assert difference is not None
    means = [row.evaluations[name].summary.mean for row in (other, base)]
    assert difference.mean == pytest.approx(means[0] - means[1])
    assert {"localization/pointing" in row.evaluations for row in found.rows} == {True, False}
    assert found.left_out == ()
    assert "few-shot: 3-way 1-shot prototype" in (tmp_path / "out" / "comparison.md").read_text()


def test_of_the_last_weights_they_do_not(tmp_path: Path) -> None:
    recipe = _RECIPE.replace("epochs = 1", "epochs = 3")
    (tmp_path / "split.toml").write_text(recipe)
    wanted = {
        "base": str(tmp_path / "split.toml"),
        "losses": ["cam"],
        "seeds": [0],
        "output": tmp_path / "out",
    }
    kdcam.compare(**wanted)
    stale = []
    for run in (path for path in (tmp_path / "out" / "runs").iterdir() if path.is_dir()):
        result = read_json(run / "result.json")
        kdcam.localize(run, weights="last")
        if result["selected"]["epoch"] != result["last"]["epoch"]:
            stale.append(run)
    found = kdcam.compare(**wanted)
    assert len(found.left_out) == len(stale)
    assert all(
        "localization.json is of other weights than model.safetensors" in one for one in found.left_out
    )
