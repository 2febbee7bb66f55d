"""few-shot-episodes.safetensors: which images the episodes of a run's few-shot.json were made of."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdcam.data.batches.episodes import Episodes
from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.paths import expanded
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.runs.run_files import EPISODES_FILE


def write_episodes(folder: Path, episodes: Mapping[int, Episodes]) -> None:
    """Write the episodes of each number of shots beside few-shot.json; without any, the file of earlier ones goes.

    Three tensors each, int32: ``1-shot/support`` (T, ways * shots), ``1-shot/query`` (T, ways * queries), positions of
    images in the order of novel.targets, and ``1-shot/classes`` (T, ways), positions in novel.classes. Their SHA-256
    stands with each of the scores.
    """
    tensors: dict[str, Tensor] = {}
    for shots, drawn in episodes.items():
        for name, values in drawn._asdict().items():
            tensors[f"{shots}-shot/{name}"] = values.to(torch.int32)
    if tensors:
        write_atomically(folder / EPISODES_FILE, tensor_bytes(tensors, {}))
        return
    try:
        (folder / EPISODES_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{folder / EPISODES_FILE}: cannot be removed ({error.strerror or error}); remove it yourself"
        ) from error


def read_episodes(run: str | Path) -> dict[int, Episodes]:
    """Return the episodes of a run's few-shot.json by their number of shots.

    Positions in ``classes`` count along few-shot.json's novel.classes; those in ``support`` and ``query`` along the
    images, in the order of the held-out classes' data or, with a root, of its class folders and their file names.

    Args:
        run: The run folder, after `kdcam.evaluate_few_shot` or ``kdcam few-shot``.

    Returns:
        `kdcam.data.batches.episodes.Episodes` by shots: ``read_episodes("runs/base-0")[5].support`` is (T, ways * 5).

    Raises ``CheckpointError`` where there is no such file, or it is damaged.
    """
    folder = expanded(run)
    tensors = read_tensors(folder / EPISODES_FILE)
    try:
        return {
            int(name.partition("-")[0]): Episodes(
                *(tensors[f"{name.partition('/')[0]}/{part}"].long() for part in Episodes._fields)
            )
            for name in sorted(tensors)
            if name.endswith("/support")
        }
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{folder / EPISODES_FILE}: is of another layout ({error}); ask the run anew (kdcam few-shot)"
        ) from None


__all__ = ["read_episodes", "write_episodes"]
