"""What a run does with its teachers before the first step."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import Watcher, small_recipe

import kdcam
from kdcam.errors import CheckpointError, DataError, Interrupted
from kdcam.files.digests import weights_digest
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.run_files import find_state


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    return kdcam.train(small_recipe(epochs=1), output=folder, device="cpu").path


def taught_by(teacher: Path) -> TrainRecipe:
    return small_recipe(
        loss=[{"name": "cross_entropy"}, {"name": "kd"}], teacher={"checkpoint": str(teacher)}
    )


def test_a_teacher_that_was_refused_is_refused_again(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_wrong = SimpleNamespace(headline=lambda: {"acc1": 0.0}, images=1000)
    monkeypatch.setattr("kdcam.training.teachers.live_teacher.score", lambda *_, **__: always_wrong)
    for _ in range(2):
        with pytest.raises(DataError, match=r"less than guessing"):
            kdcam.distill(taught_by(teacher), output=tmp_path / "run", device="cpu")
    assert find_state(tmp_path / "run") == "unfinished"


def test_a_teacher_is_judged_once_where_a_state_was_kept(teacher: Path, tmp_path: Path) -> None:
    said = []
    for stop_after in (5, None):
        watcher = Watcher(stop_after)
        try:
            kdcam.distill(taught_by(teacher), output=tmp_path / "run", device="cpu", progress=watcher)
        except Interrupted:
            assert any((tmp_path / "run" / "resume").iterdir())
        said.append(any(text.startswith(f"teacher {teacher}: acc1 ") for text in watcher.messages))
    assert said == [True, False]


def test_the_weights_that_a_name_stands_for_are_recorded_and_compared(
    teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdcam.training.training_run.location_kind", lambda _: "name")
    recipe = taught_by(teacher)
    with pytest.raises(Interrupted):
        kdcam.distill(recipe, output=tmp_path / "run", device="cpu", progress=Watcher(5))
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert record["teacher_weights"] == {str(teacher): weights_digest(kdcam.load(teacher).network)}
    monkeypatch.setattr("kdcam.training.training_run.weights_digest", lambda _: "of another default tag")
    with pytest.raises(CheckpointError, match=r"holds an unfinished run under other weights of the teacher"):
        kdcam.distill(recipe, output=tmp_path / "run", device="cpu")
