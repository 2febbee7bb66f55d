import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import Watcher, small_recipe

from kdcam.errors import CheckpointError, Interrupted
from kdcam.models.weights.config_json import read_config
from kdcam.training.preflight import preflight
from kdcam.training.training_run import RunResult, run_training


def split_file(folder: Path, novel: str) -> Path:
    file = folder / "split.csv"
    parts = {str(digit): "novel" if str(digit) in novel else "base" for digit in range(10)}
    file.write_text("class,part\n" + "".join(f"{name},{part}\n" for name, part in parts.items()))
    return file


def go(folder: Path, data: dict[str, Any], stop_after: int | None = None) -> RunResult:
    recipe = small_recipe(
        data={"name": "digits", "augment": [], **data}, loss=[{"name": "cross_entropy"}], epochs=2
    )
    checked = preflight(recipe, device="cpu")
    watcher = Watcher(stop_after)
    return run_training(checked, output=folder / "run", resume="auto", command=(), progress=watcher)


def test_classes_changed_between_stop_and_resume_are_refused(tmp_path: Path) -> None:
    data = {"class_split": {"file": str(split_file(tmp_path, "012"))}}
    with pytest.raises(Interrupted):
        go(tmp_path, data, stop_after=70)
    split_file(tmp_path, "789")
    with pytest.raises(
        CheckpointError,
        match=r"run: the data has changed since the run began: 7 classes then and 7 now \('7', '8', '9' then alone, "
        r"'0', '1', '2' now alone\); restore",
    ):
        go(tmp_path, data)
    split_file(tmp_path, "012")
    assert go(tmp_path, data).result["label_names"] == list("3456789")


def test_images_that_came_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        go(tmp_path, {"fraction": 0.5}, stop_after=40)
    file = tmp_path / "run" / "recipe.json"
    record = json.loads(file.read_text())
    number = record["training_data"]["images"]
    for changes, said in (
        ({"images": number + 3}, rf"began: {number + 3} training images then, {number} now"),
        ({"labels": "others"}, rf"began: the labels of its {number} training images are others"),
        ({"label_names": list("1023456789")}, r"began: the same 10 classes in another order"),
    ):
        file.write_text(json.dumps({**record, "training_data": {**record["training_data"], **changes}}))
        with pytest.raises(CheckpointError, match=said):
            go(tmp_path, {"fraction": 0.5})
    del record["training_data"]
    file.write_text(json.dumps(record))  # of before it was kept
    go(tmp_path, {"fraction": 0.5})


def test_a_run_that_kept_no_state_begins_with_the_data_as_it_is(tmp_path: Path) -> None:
    data = {"class_split": {"file": str(split_file(tmp_path, "012"))}}
    with pytest.raises(Interrupted):
        go(tmp_path, data, stop_after=70)
    for file in (tmp_path / "run" / "resume").iterdir():
        file.unlink()
    split_file(tmp_path, "789")
    go(tmp_path, data)
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert record["training_data"]["label_names"] == list("0123456")
    assert read_config(tmp_path / "run").label_names == tuple("0123456")
