import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SCENES, Watcher, kept_files, small_recipe

import kdcam
from kdcam.data.label_noise import NoisyLabels
from kdcam.errors import CheckpointError, DataError, Interrupted
from kdcam.models.weights.config_json import read_config
from kdcam.runs.open_run import load_run
from kdcam.runs.picture_record import read_noisy_labels, write_noisy_labels
from kdcam.runs.run_files import NOISE_FILE
from kdcam.training.preflight import preflight
from kdcam.training.training_run import RunResult, run_training


def noise(*noisy: int) -> NoisyLabels:
    clean, wrong = torch.tensor([0, 1, 2]), torch.tensor(noisy)
    return NoisyLabels(clean, wrong, clean != wrong, "symmetric", 0.4)


def test_round_trip_and_again(tmp_path: Path) -> None:
    write_noisy_labels(tmp_path, noise(0, 2, 2))
    write_noisy_labels(tmp_path, noise(0, 2, 2))
    clean, noisy = read_noisy_labels(tmp_path)
    assert (clean.tolist(), noisy.tolist()) == ([0, 1, 2], [0, 2, 2])


def test_no_noise_writes_nothing(tmp_path: Path) -> None:
    write_noisy_labels(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_other_labels_than_the_run_began_with_are_refused(tmp_path: Path) -> None:
    write_noisy_labels(tmp_path, noise(0, 2, 2))
    with pytest.raises(CheckpointError, match="the data has changed since the run began"):
        write_noisy_labels(tmp_path, noise(1, 1, 2))


def test_damaged_file(tmp_path: Path) -> None:
    (tmp_path / NOISE_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=NOISE_FILE):
        read_noisy_labels(tmp_path)


def matrix_file(folder: Path, keep: float) -> Path:
    file = folder / "matrix.csv"
    rows = [[keep if i == j else (1 - keep) / 9 for j in range(10)] for i in range(10)]
    file.write_text("\n".join(",".join(map(str, row)) for row in rows))
    return file


def test_a_finished_run_is_evaluated_on_the_labels_it_keeps(tmp_path: Path) -> None:
    file = matrix_file(tmp_path, 0.6)
    recipe = small_recipe(data={**SCENES, "noise": {"kind": "matrix", "file": file}}, epochs=1)
    path = kdcam.train(recipe, output=tmp_path / "run", device="cpu").path
    clean, noisy = read_noisy_labels(path)
    file.unlink()
    parts = load_run(path, device="cpu").parts
    assert torch.equal(parts.train.targets, noisy)
    assert parts.noise is not None
    assert torch.equal(parts.noise.clean, clean)
    assert (parts.noise.kind, parts.noise.realised_rate) == (
        "matrix",
        float((clean != noisy).double().mean()),
    )
    (path / NOISE_FILE).unlink()
    with pytest.raises(DataError, match=r"matrix\.csv: cannot be read"):
        load_run(path, device="cpu")


def test_a_resumed_run_sees_the_labels_it_began_with(tmp_path: Path) -> None:
    noise = {"kind": "matrix", "file": matrix_file(tmp_path, 0.6)}
    recipe = small_recipe(data={**SCENES, "noise": noise})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    kdcam.train(recipe, output=whole, device="cpu")
    with pytest.raises(Interrupted):
        kdcam.train(recipe, output=stopped, device="cpu", progress=Watcher(stop_after=2))
    begun = (stopped / NOISE_FILE).read_bytes()
    matrix_file(tmp_path, 0.1)
    with pytest.raises(CheckpointError, match=r"holds other labels than the data gives now"):
        kdcam.train(recipe, output=stopped, device="cpu")
    matrix_file(tmp_path, 0.6)
    watcher = Watcher()
    kdcam.train(recipe, output=stopped, device="cpu", progress=watcher)
    assert (stopped / NOISE_FILE).read_bytes() == begun == (whole / NOISE_FILE).read_bytes()
    assert kept_files(stopped) == kept_files(whole)
    assert any("label noise (matrix): " in text for text in watcher.messages)
    assert any(", 40.0% were to be expected" in text for text in watcher.messages)


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
