"""pictures.safetensors: which picture of a run was in which part, by the digests of their files' bytes."""

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy
import torch
from torch import Tensor

from kdcam.data.batches.image_digests import text_bytes, texts_in
from kdcam.data.dataset_parts import PictureTable
from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.json_files_part import read_json
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.runs.recorded_parts import PART_NAMES, PictureRecord
from kdcam.runs.run_files import PICTURES_FILE, PICTURES_KEY, RECIPE_FILE
from kdcam.settings.messages import reason_text


def pictures_bytes(kept: PictureRecord) -> bytes:
    """Return pictures.safetensors: about 85 bytes a picture, of which 32 are its key."""
    table = kept.table
    rows = table.targets
    texts = {
        "paths": table.paths,
        "unread": table.unread,
        "label_names": table.label_names,
        "run_label_names": kept.label_names,
    }
    tensors = {
        "keys": table.keys,
        "stamps": table.stamps,
        "labels": rows.int() if rows.ndim == 1 else _packed(rows),
        **{name: _compressed(text_bytes(of_name)) for name, of_name in texts.items()},
        **{f"part.{name}": positions for name, positions in kept.parts.items()},
    }
    return tensor_bytes(tensors, {})


def pictures_digest(data: bytes) -> str:
    """Return what recipe.json keeps of the file."""
    return hashlib.sha256(data).hexdigest()


def write_pictures(folder: Path, data: bytes) -> None:
    """Write pictures.safetensors into a run's folder; ``CheckpointError`` where it cannot be written."""
    write_atomically(folder / PICTURES_FILE, data)


def recorded_digest(folder: Path) -> str | None:
    """Return the SHA-256 of pictures.safetensors that a run's recipe.json tells; None: its pictures were not kept."""
    found = read_json(folder / RECIPE_FILE).get(PICTURES_KEY)
    return found if isinstance(found, str) else None


def read_pictures(folder: Path) -> PictureRecord | None:
    """Return which picture of a run was in which part; None where the run kept none.

    Raises ``CheckpointError`` where it kept them and the file is gone or another one now.
    """
    digest, path = recorded_digest(folder), folder / PICTURES_FILE
    if digest is None:
        return None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({reason_text(error)}), and it tells which pictures the run was trained on; "
            "restore it from a copy, or train again in another --output"
        ) from error
    if pictures_digest(data) != digest:
        raise CheckpointError(
            f"{path}: is damaged or of another run (its SHA-256 is not that in {RECIPE_FILE}), and it tells which "
            "pictures the run was trained on; restore it from a copy, or train again in another --output"
        )
    return _unpacked(read_tensors(path))


def _unpacked(tensors: Mapping[str, Tensor]) -> PictureRecord:
    texts = {
        name: texts_in(_inflated(tensors[name]))
        for name in ("paths", "unread", "label_names", "run_label_names")
    }
    labels, names = tensors["labels"], texts["label_names"]
    table = PictureTable(
        texts["paths"],
        tensors["keys"],
        tensors["stamps"],
        labels.long() if labels.ndim == 1 else _rows(labels, len(names)),
        names,
        texts["unread"],
    )
    return PictureRecord(
        table, {name: tensors[f"part.{name}"] for name in PART_NAMES}, texts["run_label_names"]
    )


def _compressed(row: Tensor) -> Tensor:
    return torch.frombuffer(bytearray(zlib.compress(row.numpy().tobytes())), dtype=torch.uint8)


def _inflated(row: Tensor) -> Tensor:
    # Of a file whose digest was right: kdcam wrote it.
    return torch.from_numpy(
        numpy.frombuffer(zlib.decompress(row.numpy().tobytes()), dtype=numpy.uint8).copy()
    )


def _packed(rows: Tensor) -> Tensor:
    return torch.from_numpy(numpy.packbits(rows.numpy() > 0, axis=1))


def _rows(packed: Tensor, classes: int) -> Tensor:
    return torch.from_numpy(numpy.unpackbits(packed.numpy(), axis=1, count=classes)).float()


__all__ = [
    "pictures_bytes",
    "pictures_digest",
    "read_pictures",
    "recorded_digest",
    "write_pictures",
]
