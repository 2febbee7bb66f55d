"""Images and labels that a run began with: a digest in recipe.json, and noise.safetensors with the wrong ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdcam.data.common_config import NoiseKind
from kdcam.data.dataset_parts import DataParts
from kdcam.data.label_noise import NoisyLabels
from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.digests import targets_digest
from kdcam.files.json_files import layout_errors, read_json
from kdcam.files.paths import exists
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.runs.run_files import RECIPE_FILE
from kdcam.runs.run_folder import TRAINING_KEY
from kdcam.settings.messages import first_few, listed

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


def training_data(parts: DataParts) -> dict[str, Any]:
    """Return classes, number of training images and the SHA-256 of their true labels, in a form that JSON takes."""
    labels = parts.train.targets if parts.noise is None else parts.noise.clean
    return {
        "label_names": list(parts.label_names),
        "images": len(parts.train),
        "labels": targets_digest(labels),
    }


def check_training_data(folder: Path, parts: DataParts) -> None:
    """Raise ``CheckpointError`` where an unfinished run would go on with other classes or images than it began with.

    A class folder added, a file of a class split changed: its two halves would be of different classes under the same
    numbers. A run of before this was kept goes on.
    """
    before = read_json(folder / RECIPE_FILE).get(TRAINING_KEY)
    now = training_data(parts)
    if before is None or before == now:
        return
    with layout_errors(folder / RECIPE_FILE):
        change = _change(before, now)
    raise CheckpointError(
        f"{folder}: the data has changed since the run began: {change}; restore the data, or start over with --resume "
        "never"
    )


def _change(before: dict[str, Any], now: dict[str, Any]) -> str:
    if before["label_names"] != now["label_names"]:
        then, there = before["label_names"], now["label_names"]
        gone = [name for name in then if name not in there]
        new = [name for name in there if name not in then]
        if gone or new:
            return (
                f"{len(then)} classes then and {len(there)} now ({first_few(map(repr, gone))} then alone, "
                f"{first_few(map(repr, new))} now alone)"
            )
        return f"the same {len(then)} classes in another order"
    if before["images"] != now["images"]:
        return f"{before['images']} training images then, {now['images']} now"
    return f"the labels of its {now['images']} training images are others now than then"


__all__ = [
    "NOISE_FILE",
    "check_training_data",
    "read_noisy_labels",
    "training_data",
    "with_recorded_noise",
    "write_noisy_labels",
]
