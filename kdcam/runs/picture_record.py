"""Which picture of a run was in which part, by the digests of files' bytes: the record pictures.safetensors."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy
import torch
from torch import Tensor

from kdcam.data.batches.decoding import map_in_threads
from kdcam.data.batches.image_digests import file_key, keys_in, path_from, stamp_of, text_bytes, texts_in
from kdcam.data.common_config import PictureFilesConfig
from kdcam.data.dataset_parts import DataParts, PictureTable
from kdcam.data.source_configs import DataConfig
from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.json_files import read_json
from kdcam.files.paths import expanded
from kdcam.models.weights.safetensors_files import read_tensors, tensor_bytes
from kdcam.runs.run_files import PICTURES_FILE, PICTURES_KEY, RECIPE_FILE
from kdcam.runtime.progress import Silent
from kdcam.settings.messages import reason_text

PART_NAMES = ("train", "validation", "test")


Label = str | frozenset[str]


# Why a picture is known by the digest of its bytes: docs/decisions/022.
@dataclass(frozen=True)
class PictureRecord:
    """All files that a run's data held, and which of them were in which part."""

    table: PictureTable
    parts: Mapping[
        str, Tensor
    ]  # positions in the table, in the order of the part; a part that there was none of: empty
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
        return [place for place in (~used).nonzero().flatten().tolist() if self.labels[place] in names]

    def shared(self, part: str) -> list[str]:
        """Return the pictures of a part that were trained on, too: the same bytes under two names."""
        trained = self.keys_of("train")
        return [self.table.paths[i] for i in self.parts[part].tolist() if self.keys[i] in trained]


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


def trained_pictures_among(kept: PictureRecord, paths: Sequence[Path]) -> list[Path]:
    """Return the files that hold a picture which a run was trained on, byte for byte, under any name.

    Only files of the size of such a picture are read. Raises ``DataError`` where one of these cannot be read.
    """
    sizes = set(kept.table.stamps[kept.parts["train"], 0].tolist())
    stamps = {path: stamp_of(path) for path in paths}
    alike = [path for path, stamp in stamps.items() if stamp is not None and stamp[0] in sizes]
    if not alike:
        return []
    trained = kept.keys_of("train")
    keys = map_in_threads(
        lambda index: file_key(alike[index]).key, len(alike), task="digests of pictures", progress=Silent()
    )
    return [path for path, key in zip(alike, keys, strict=True) if key in trained]


def record_pictures(parts: DataParts, config: DataConfig) -> PictureRecord | None:
    """Return what a run is to keep of its pictures; None where the source lists no files."""
    table = parts.table
    if table is None or not isinstance(config, PictureFilesConfig):
        return None
    root, places = expanded(config.root), {path: place for place, path in enumerate(table.paths)}
    positions = {
        name: torch.tensor(
            [] if part is None else [places[path_from(root, path)] for path in part.paths or ()],
            dtype=torch.int64,
        )
        for name, part in parts.held().items()
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


__all__ = [
    "PART_NAMES",
    "Label",
    "PictureRecord",
    "labels_by_name",
    "pictures_bytes",
    "pictures_digest",
    "read_pictures",
    "record_pictures",
    "recorded_digest",
    "trained_pictures_among",
    "write_pictures",
]
