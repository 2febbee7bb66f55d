from pathlib import Path

import pytest
import torch

from kdcam.data.label_noise import NoisyLabels
from kdcam.errors import CheckpointError
from kdcam.noise_file import NOISE_FILE, keep_noise, read_noise


def noise(*noisy: int) -> NoisyLabels:
    clean, wrong = torch.tensor([0, 1, 2]), torch.tensor(noisy)
    return NoisyLabels(clean, wrong, clean != wrong, "symmetric", 0.4)


def test_round_trip_and_again(tmp_path: Path) -> None:
    keep_noise(tmp_path, noise(0, 2, 2))
    keep_noise(tmp_path, noise(0, 2, 2))
    clean, noisy = read_noise(tmp_path)
    assert (clean.tolist(), noisy.tolist()) == ([0, 1, 2], [0, 2, 2])


def test_no_noise_writes_nothing(tmp_path: Path) -> None:
    keep_noise(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_other_labels_than_the_run_began_with_are_refused(tmp_path: Path) -> None:
    keep_noise(tmp_path, noise(0, 2, 2))
    with pytest.raises(CheckpointError, match="the data has changed since the run began"):
        keep_noise(tmp_path, noise(1, 1, 2))


def test_damaged_file(tmp_path: Path) -> None:
    (tmp_path / NOISE_FILE).write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=NOISE_FILE):
        read_noise(tmp_path)
