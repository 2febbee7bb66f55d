"""The parts that a run was made with, found again in its data as it is now."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.decoding import map_in_threads
from kdcam.data.batches.image_digests import file_key, key_rows, path_from, stamp_of
from kdcam.data.batches.streaming import FilePictures, StreamImages
from kdcam.data.common_config import PictureFilesConfig
from kdcam.data.dataset_parts import DataParts, Part
from kdcam.data.datasets import list_source
from kdcam.data.source_configs import DataConfig, ImageLabelsConfig
from kdcam.data.sources.image_labels import list_named
from kdcam.data.sources.picture_files import ListedParts, data_folder, read_known
from kdcam.data.splits.class_split import classes_of
from kdcam.errors import DataError
from kdcam.files.folder_listing import files_below
from kdcam.files.paths import expanded
from kdcam.runs.picture_record import Label, PictureRecord, labels_by_name
from kdcam.runtime.progress import Progress, Silent
from kdcam.settings.messages import first_few


class MissingPictures(NamedTuple):
    """What a part has lost since a run was made."""

    pictures: int  # then
    gone: tuple[str, ...] = ()
    edited: tuple[str, ...] = ()
    relabelled: tuple[str, ...] = ()

    @property
    def lost(self) -> int:
        """The number of lost pictures."""
        return len(self.gone) + len(self.edited) + len(self.relabelled)

    def text(self) -> str:
        """Return what is lost, with names."""
        words = {"gone": self.gone, "edited": self.edited, "of another label now": self.relabelled}
        return "; ".join(f"{word}: {first_few(names, most=5)}" for word, names in words.items() if names)


class _Located(NamedTuple):
    """Where pictures are now."""

    paths: Mapping[int, str]  # position in the table -> path from root on, of those with their label
    gone: frozenset[int]
    edited: frozenset[int]
    relabelled: frozenset[int]
    added: tuple[str, ...]  # files that the run has not seen

    def missing(self, positions: Sequence[int], paths: Sequence[str]) -> MissingPictures:
        """Return what of some pictures is lost."""
        lost = (
            tuple(paths[i] for i in positions if i in kind)
            for kind in (self.gone, self.edited, self.relabelled)
        )
        return MissingPictures(len(positions), *lost)


class RecordedData(NamedTuple):
    """A run's data as it was, as far as it is still there."""

    parts: DataParts
    missing: Mapping[str, MissingPictures]  # by part
    added: tuple[str, ...]  # files that are of no part
    renamed: Mapping[str, str]  # path when the run was made -> path now, where it is another one


def load_recorded_parts(
    config: DataConfig, record: PictureRecord, *, progress: Progress | None = None
) -> RecordedData:
    """Return the parts that a run kept, as far as they are still there; without label noise.

    A picture that bears another name, or lies in another folder of its class, is known by its key; files whose size and
    times are as they were are not read for that. Labels are those that the run recorded; ``label_names`` of the parts
    are those that the data has now.

    Raises ``DataError`` where the data cannot be listed, or a picture cannot be read.
    """
    assert isinstance(config, PictureFilesConfig)
    watcher = progress or Silent()
    listing = _listing(config)
    positions = {name: indices.tolist() for name, indices in record.parts.items()}
    found = _find(record, [i for indices in positions.values() for i in indices], config, listing, watcher)
    parts = {
        name: _part(
            [i for i in indices if i in found.paths], found, record, config, name=name, progress=watcher
        )
        for name, indices in positions.items()
    }
    data = DataParts(
        train=parts["train"],
        validation=parts["validation"] if positions["validation"] else None,
        test=parts["test"] if positions["test"] else None,
        label_names=classes_of(config, listing.label_names),
        channels=config.channels,
        image_size=config.image_size,
    )
    missing = {name: found.missing(indices, record.table.paths) for name, indices in positions.items()}
    renamed = {
        record.table.paths[i]: path for i, path in found.paths.items() if record.table.paths[i] != path
    }
    return RecordedData(data, missing, found.added, renamed)


def load_left_out(
    config: DataConfig, record: PictureRecord, names: Sequence[str], *, progress: Progress
) -> tuple[Part, MissingPictures, tuple[str, ...]]:
    """Return the pictures of classes that a run was not trained on, numbered as ``names``; what is lost and added.

    Raises ``DataError`` where the data cannot be listed, or a picture cannot be read.
    """
    assert isinstance(config, PictureFilesConfig)
    positions = record.left_out_of(names)
    found = _find(record, positions, config, _listing(config), progress)
    there = [i for i in positions if i in found.paths]
    of_these = replace(record, label_names=tuple(names))
    part = _part(there, found, of_these, config, name="unseen", progress=progress)
    return part, found.missing(positions, record.table.paths), found.added


def describe_changes(config: DataConfig, record: PictureRecord, *, most_read: int) -> str | None:
    """Return that a run's pictures have changed, or may have, with names; None: they have not, as far as stamps tell.

    At most ``most_read`` files are read, of those whose size or times are others now; of more it is only said that
    these are others.

    Raises ``DataError`` where the data cannot be listed.
    """
    assert isinstance(config, PictureFilesConfig)
    positions = [i for indices in record.parts.values() for i in indices.tolist()]
    stamps, root = record.table.stamps.tolist(), expanded(config.root)
    doubtful = [i for i in positions if list(stamp_of(f"{root}/{record.table.paths[i]}") or ()) != stamps[i]]
    if len(doubtful) > most_read:
        return (
            f"may have changed since it was trained: {len(doubtful)} of {len(positions)} pictures have other sizes or "
            "times, or are gone, and were not read again"
        )
    found = _find(record, positions, config, _listing(config), Silent())
    missing = found.missing(positions, record.table.paths)
    texts = []
    if missing.lost:
        texts.append(f"{missing.lost} of {missing.pictures} pictures have changed ({missing.text()})")
    if found.added:
        texts.append(f"{len(found.added)} are new ({first_few(found.added)})")
    return f"has changed since it was trained: {'; '.join(texts)}" if texts else None


def _listing(config: PictureFilesConfig) -> ListedParts:
    """Return the files of a source; those that a label file names, whether they are there or not."""
    if isinstance(config, ImageLabelsConfig):
        return list_named(config)
    return list_source(config)


class _Files:
    """The files of a source as they are now, and which of them a run knows."""

    def __init__(
        self, record: PictureRecord, config: PictureFilesConfig, listing: ListedParts, progress: Progress
    ) -> None:
        self.root, self.progress = data_folder(config.root), progress
        self.labels: dict[str, Label] = {
            path_from(self.root, path): label
            for part in listing.present()
            for path, label in zip(part.paths, labels_by_name(part.targets, listing.label_names), strict=True)
        }
        # A label file names what it named, and the picture may lie elsewhere now.
        self.elsewhere = isinstance(config, ImageLabelsConfig)
        stamps = record.table.stamps.tolist()
        self.known: dict[str, bytes] = {
            path: record.keys[i]
            for i, path in enumerate(record.table.paths)
            if list(stamp_of(self.path_text(path)) or ()) == stamps[i]
        }

    def path_text(self, path: str) -> str:
        return f"{self.root}/{path}"

    def read(self, paths: Sequence[str]) -> None:
        """Learn the keys of files, of those that can be read."""

        def key(index: int) -> bytes | None:
            try:
                return file_key(Path(self.path_text(paths[index]))).key
            except DataError:
                return None

        keys = map_in_threads(key, len(paths), task="digests of pictures", progress=self.progress)
        self.known.update({path: found for path, found in zip(paths, keys, strict=True) if found is not None})

    def all_paths(self) -> list[str]:
        """Return all files among which a lost picture may be."""
        below = [path_from(self.root, path) for path in files_below(self.root)] if self.elsewhere else []
        return list(dict.fromkeys((*self.labels, *below)))

    def label(self, path: str, before: str) -> Label | None:
        """Return the label of a file that was at ``before``; None where none is given to it."""
        return self.labels.get(path, self.labels.get(before) if self.elsewhere else None)


def _find(
    record: PictureRecord,
    positions: Sequence[int],
    config: PictureFilesConfig,
    listing: ListedParts,
    progress: Progress,
) -> _Located:
    """Return where the pictures at some positions of a run's table are now."""
    files, paths = _Files(record, config, listing, progress), record.table.paths
    files.read([paths[i] for i in positions if paths[i] in files.labels and paths[i] not in files.known])
    at = {
        i: paths[i]
        for i in positions
        if files.known.get(paths[i]) == record.keys[i] and paths[i] in files.labels
    }
    lost = [i for i in positions if i not in at]
    if lost:
        everywhere = files.all_paths()
        files.read([path for path in everywhere if path not in files.known])
        by_key: dict[bytes, list[str]] = {}
        for path in everywhere:
            if path in files.known:
                by_key.setdefault(files.known[path], []).append(path)
        for i in lost:
            alike = by_key.get(record.keys[i], [])
            same = [path for path in alike if files.label(path, paths[i]) == record.labels[i]]
            if alike:
                at[i] = (same or alike)[0]
    return _judged(record, positions, at, files)


def _judged(
    record: PictureRecord, positions: Sequence[int], at: Mapping[int, str], files: _Files
) -> _Located:
    paths = record.table.paths
    labels = {i: files.label(path, paths[i]) for i, path in at.items()}
    there = {i: path for i, path in at.items() if labels[i] == record.labels[i]}
    absent = [i for i in positions if i not in at or labels[i] is None]
    edited = frozenset(i for i in absent if paths[i] in files.labels and paths[i] in files.known)
    seen = {*paths, *record.table.unread, *at.values()}
    return _Located(
        there,
        frozenset(absent) - edited,
        edited,
        frozenset(i for i in at if i not in there and labels[i] is not None),
        tuple(path for path in files.labels if path not in seen),
    )


def _part(
    positions: Sequence[int],
    found: _Located,
    record: PictureRecord,
    config: PictureFilesConfig,
    *,
    name: str,
    progress: Progress,
) -> Part:
    root, rows = expanded(config.root), torch.tensor(positions, dtype=torch.int64)
    paths = tuple(root / found.paths[i] for i in positions)
    keys = [record.keys[i] for i in positions]
    source = FilePictures(paths, keys, max_pixels=config.max_pixels)
    images = StreamImages(source, image_size=config.image_size, channels=config.channels)
    targets = _numbered(record.table.targets[rows], record.table.label_names, record.label_names)
    part = Part(images, targets, paths=paths, keys=key_rows(keys), stamps=record.table.stamps[rows])
    return read_known(part, config, task=f"reading {name} pictures", progress=progress)


def _numbered(targets: Tensor, names: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Return labels, or rows, by the numbers of the classes ``wanted``."""
    if targets.ndim == 2:
        return targets[:, [names.index(name) for name in wanted]].float()
    number = {name: index for index, name in enumerate(wanted)}
    return torch.tensor([number.get(name, -1) for name in names])[targets]


__all__ = [
    "MissingPictures",
    "RecordedData",
    "describe_changes",
    "load_left_out",
    "load_recorded_parts",
]
