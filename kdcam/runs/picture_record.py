"""What a run records of its data.

pictures.safetensors: which picture was in which part, by the digests of files' bytes; noise.safetensors: the wrong
labels and the true ones; recipe.json: the classes and a digest of the labels that the run began with.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy
import torch
from torch import Tensor

from kdcam.data.batches.decoding import map_in_threads
from kdcam.data.batches.image_digests import file_key, keys_in, path_from, stamp_of
from kdcam.data.common_config import NoiseKind, PictureFilesConfig
from kdcam.data.dataset_parts import DataParts, PictureTable
from kdcam.data.label_noise import NoisyLabels
from kdcam.data.source_configs import DataConfig
from kdcam.data.sources.part_names import PartName
from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.digests import targets_digest
from kdcam.files.json_files import layout_errors, read_json
from kdcam.files.paths import exists, expanded
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.runs.run_files import NOISE_FILE, PICTURES_FILE, PICTURES_KEY, RECIPE_FILE, TRAINING_KEY
from kdcam.runtime.progress import Silent
from kdcam.settings.messages import first_few, listed, reason_text

Label = str | frozenset[str]


# Why a picture is known by the digest of its bytes: docs/decisions/022.
@dataclass(frozen=True)
class PictureRecord:
    """All files that a run's data held, and which of them were in which part."""

    table: PictureTable
    parts: Mapping[str, Tensor]  # positions in the table, in the order of the part; empty: no such part
    label_names: tuple[str, ...]  # of the run: those of the table, or some of them

    @cached_property
    def keys(self) -> list[bytes]:
        """The keys of all files."""
        return keys_in(self.table.keys)

    def keys_of(self, part: str) -> set[bytes]:
        """Return the keys of a part."""
        return {self.keys[position] for position in self.parts[part].tolist()}

    @cached_property
    def labels(self) -> list[Label]:
        """The class of each file, or its classes, by name."""
        return labels_by_name(self.table.targets, self.table.label_names)

    def left_out_of(self, names: Sequence[str]) -> list[int]:
        """Return the files of some classes that were in no part, in the order of the table."""
        used = torch.zeros(len(self.table.paths), dtype=torch.bool)
        for positions in self.parts.values():
            used[positions] = True
        return [i for i in (~used).nonzero().flatten().tolist() if self.labels[i] in names]

    def shared(self, part: str) -> list[str]:
        """Return the pictures of a part that were trained on, too: the same bytes under two names."""
        trained = self.keys_of("train")
        return [self.table.paths[i] for i in self.parts[part].tolist() if self.keys[i] in trained]


def record_pictures(parts: DataParts, config: DataConfig) -> PictureRecord | None:
    """Return what a run is to keep of its pictures; None where the source lists no files."""
    table = parts.table
    if table is None or not isinstance(config, PictureFilesConfig):
        return None
    root, position = expanded(config.root), {path: i for i, path in enumerate(table.paths)}
    positions = {
        name: torch.tensor(
            [] if part is None else [position[path_from(root, path)] for path in part.paths or ()],
            dtype=torch.int64,
        )
        for name, part in parts.by_name().items()
    }
    return PictureRecord(table, positions, parts.label_names)


def labels_by_name(targets: Tensor, names: Sequence[str]) -> list[Label]:
    """Return each image's label, or its set of labels for rows of several, by name."""
    if targets.ndim == 1:
        return [names[label] for label in targets.tolist()]
    found: list[set[str]] = [set() for _ in range(len(targets))]
    for position, label in targets.nonzero().tolist():
        found[position].add(names[label])
    return [frozenset(labels) for labels in found]


def trained_pictures_among(record: PictureRecord, paths: Sequence[Path]) -> list[Path]:
    """Return the files that hold a picture which a run was trained on, byte for byte, under any name.

    Only files of the size of such a picture are read. Raises ``DataError`` where one of these cannot be read.
    """
    sizes = set(record.table.stamps[record.parts["train"], 0].tolist())
    stamps = {path: stamp_of(path) for path in paths}
    alike = [path for path, stamp in stamps.items() if stamp is not None and stamp[0] in sizes]
    if not alike:
        return []
    trained = record.keys_of("train")
    keys = map_in_threads(
        lambda index: file_key(alike[index]).key, len(alike), task="digests of pictures", progress=Silent()
    )
    return [path for path, key in zip(alike, keys, strict=True) if key in trained]


def pictures_digest(data: bytes) -> str:
    """Return what recipe.json keeps of the file."""
    return hashlib.sha256(data).hexdigest()


def write_pictures(folder: Path, data: bytes) -> None:
    """Write pictures.safetensors into a run's folder; ``CheckpointError`` where it cannot be written."""
    write_atomically(folder / PICTURES_FILE, data)


def recorded_digest(folder: Path) -> str | None:
    """Return the SHA-256 of pictures.safetensors that a run's recipe.json tells; None: there was no record."""
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


def pictures_bytes(record: PictureRecord) -> bytes:
    """Return pictures.safetensors: about 85 bytes a picture, of which 32 are its key."""
    table = record.table
    rows = table.targets
    texts = {
        "paths": table.paths,
        "unread": table.unread,
        "label_names": table.label_names,
        "run_label_names": record.label_names,
    }
    tensors = {
        "keys": table.keys,
        "stamps": table.stamps,
        "labels": rows.int() if rows.ndim == 1 else _packed(rows),
        **{name: _compressed(of_name) for name, of_name in texts.items()},
        **{f"part.{name}": positions for name, positions in record.parts.items()},
    }
    return tensor_bytes(tensors, {})


def _unpacked(tensors: Mapping[str, Tensor]) -> PictureRecord:
    texts = {name: _inflated(tensors[name]) for name in ("paths", "unread", "label_names", "run_label_names")}
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
        table, {name: tensors[f"part.{name}"] for name in get_args(PartName)}, texts["run_label_names"]
    )


def _compressed(texts: Iterable[str]) -> Tensor:
    """Return texts as bytes (N,) uint8, NUL behind each; any name of a file system fits."""
    data = zlib.compress(b"".join(os.fsencode(text) + b"\0" for text in texts))
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _inflated(row: Tensor) -> tuple[str, ...]:
    # Of a file whose digest was right: kdcam wrote it.
    data = zlib.decompress(row.numpy().tobytes())
    return tuple(map(os.fsdecode, data.split(b"\0")[:-1]))


def _packed(rows: Tensor) -> Tensor:
    return torch.from_numpy(numpy.packbits(rows.numpy() > 0, axis=1))


def _rows(packed: Tensor, classes: int) -> Tensor:
    return torch.from_numpy(numpy.unpackbits(packed.numpy(), axis=1, count=classes)).float()


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
        change = _training_change(before, now)
    raise CheckpointError(
        f"{folder}: the data has changed since the run began: {change}; restore the data, or start over with --resume "
        "never"
    )


def _training_change(before: dict[str, Any], now: dict[str, Any]) -> str:
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
                "the run began; restore the data, or start over in another folder with --output"
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


__all__ = [
    "Label",
    "PictureRecord",
    "check_training_data",
    "labels_by_name",
    "pictures_bytes",
    "pictures_digest",
    "read_noisy_labels",
    "read_pictures",
    "record_pictures",
    "recorded_digest",
    "trained_pictures_among",
    "training_data",
    "with_recorded_noise",
    "write_noisy_labels",
    "write_pictures",
]
