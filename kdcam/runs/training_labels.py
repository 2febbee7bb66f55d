"""noise.safetensors: which training labels of a run are wrong."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kdcam.data.common_config import NoiseKind
from kdcam.data.dataset_parts import DataParts
from kdcam.data.label_noise_part import NoisyLabels
from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.paths import exists
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.settings.messages import listed

NOISE_FILE = "noise.safetensors"


def write_noisy_labels(folder: Path, noise: NoisyLabels | None) -> None:
    """Write a run's noisy labels beside it; where they are there already they must be the same.

    Raises ``CheckpointError`` when a resumed run would see other labels than it began with.
    """
    if noise is None:
        return
    path = folder / NOISE_FILE
    if exists(path):
        clean, noisy = read_noisy_labels(folder)
        if not (torch.equal(clean, noise.clean) and torch.equal(noisy, noise.noisy)):
            raise CheckpointError(
                f"{path}: holds other labels than the data gives now, so the data has changed since "
                "the run began; restore "
                "the data, or start over in another folder with --output"
            )
        return
    write_atomically(path, tensor_bytes({"clean": noise.clean, "noisy": noise.noisy}, {}))


def read_noisy_labels(folder: Path) -> tuple[Tensor, Tensor]:
    """Return the true and the noisy labels (N,) of a run's training part.

    Raises ``CheckpointError`` when the file cannot be read.
    """
    path = folder / NOISE_FILE
    tensors = read_tensors(path)
    if set(tensors) != {"clean", "noisy"}:
        raise CheckpointError(
            f"{path}: holds {listed(sorted(tensors))}, expected the labels clean and noisy; restore the file"
        )
    clean, noisy = tensors["clean"], tensors["noisy"]
    if clean.ndim != 1 or clean.shape != noisy.shape or {clean.dtype, noisy.dtype} != {torch.int64}:
        raise CheckpointError(
            f"{path}: holds labels {clean.dtype} {tuple(clean.shape)} and {noisy.dtype} {tuple(noisy.shape)}, expected "
            "two lists of whole numbers of one length; restore the file"
        )
    return clean, noisy


def with_recorded_noise(
    folder: Path, parts: DataParts, kind: NoiseKind, *, still_there: Tensor | None = None
) -> DataParts | None:
    """Return parts read without label noise, with the noisy labels that a run keeps.

    None where it keeps none, or those of other training images than these. ``still_there`` (N,) bool: which of the
    images that it was trained on ``parts`` holds; None: all.

    Raises ``CheckpointError`` when the file cannot be read.
    """
    if not exists(folder / NOISE_FILE):
        return None
    clean, noisy = read_noisy_labels(folder)
    if still_there is not None and len(still_there) == len(clean):
        clean, noisy = clean[still_there], noisy[still_there]
    if not torch.equal(clean, parts.train.targets):
        return None
    noise = NoisyLabels(clean, noisy, noisy != clean, kind, None)
    return replace(parts, train=replace(parts.train, targets=noisy), noise=noise)


__all__ = ["NOISE_FILE", "read_noisy_labels", "with_recorded_noise", "write_noisy_labels"]
