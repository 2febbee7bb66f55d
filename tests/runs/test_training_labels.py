from pathlib import Path

import pytest
import torch
from small_runs import SCENES, Watcher, kept_files, small_recipe

import kdcam
from kdcam.data.label_noise import NoisyLabels
from kdcam.errors import CheckpointError, DataError, Interrupted
from kdcam.runs.data_record import read_noisy_labels, write_noisy_labels
from kdcam.runs.open_run import load_run
from kdcam.runs.run_files import NOISE_FILE


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
