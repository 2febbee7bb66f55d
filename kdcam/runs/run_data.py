"""A run's data read again: the parts that it recorded, and what is said where they are not as they were."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError

from kdcam.data.common_config import PictureFilesConfig
from kdcam.data.dataset_parts import DataParts
from kdcam.data.datasets import load_data_by_position
from kdcam.data.source_configs import DataConfig, OmniglotConfig
from kdcam.errors import CheckpointError, DataError, RecipeError
from kdcam.files.paths import exists, expanded, is_folder, shown
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.part_recovery import MissingPictures, describe_changes, load_recorded_parts
from kdcam.runs.picture_record import (
    PictureRecord,
    read_pictures,
    recorded_digest,
    trained_pictures_among,
    with_recorded_noise,
)
from kdcam.runs.run_files import NOISE_FILE, RECIPE_FILE
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import first_few, listed
from kdcam.settings.validation import key_and_flag, validation_messages

DATA_ROOT_OPTION = "--set data.root=DIR"
_LOCATION_KEYS = ("root", "labels", "names", "workers")
_READ_BY_TRAIN = 1000  # changed files that `train` on a finished run reads: a few seconds


class RunData(NamedTuple):
    """A run's data as it was, as far as it is still there."""

    parts: DataParts
    missing: Mapping[str, MissingPictures]  # by part; empty where nothing tells
    digest: str | None  # of the record of its pictures
    renamed: Mapping[str, str] = {}  # path when the run was made -> path now, where they differ
    record: PictureRecord | None = None  # None: the run is from before there were records


def read_run_data(folder: Path, config: DataConfig, *, progress: Progress) -> RunData:
    """Return a run's data; its noisy labels as the run keeps them, since files of noise move and change.

    The parts are those that the run recorded. A run from before pictures were recorded has them drawn as then, and the
    watcher is warned.

    Raises ``DataError`` where the data cannot be read any more, ``CheckpointError`` where files of the run are damaged.
    """
    check_data_folder(folder, config)
    clean = config.model_copy(update={"noise": None})
    record = read_pictures(folder)
    if record is None:
        warn_of_no_record(folder, config, progress)
        return RunData(_drawn_again(folder, config, clean, progress), {}, None)
    found = load_recorded_parts(clean, record, progress=progress)
    parts = found.parts
    if config.noise is not None and parts.label_names == record.label_names:
        parts = _with_noise(folder, parts, record, found.missing["train"], config)
    for name in ("validation", "test"):
        _warn_of_shared(folder, record, name, progress)
    warn_of_added(folder, found.added, progress)
    return RunData(parts, found.missing, recorded_digest(folder), found.renamed, record)


def _drawn_again(folder: Path, config: DataConfig, clean: DataConfig, progress: Progress) -> DataParts:
    if config.noise is None:
        return load_data_by_position(config, progress=progress)
    parts = with_recorded_noise(folder, load_data_by_position(clean, progress=progress), config.noise.kind)
    return load_data_by_position(config, progress=progress) if parts is None else parts


def _with_noise(
    folder: Path, parts: DataParts, record: PictureRecord, missing: MissingPictures, config: DataConfig
) -> DataParts:
    """Return the parts with the noisy labels that the run keeps of the pictures that are still there."""
    assert config.noise is not None
    if missing.lost == 0:
        noisy = with_recorded_noise(folder, parts, config.noise.kind)
        if noisy is None:
            raise CheckpointError(
                f"{folder / NOISE_FILE}: is gone or of other labels than the run's pictures; restore it from a copy"
            )
        return noisy
    lost = {*missing.gone, *missing.edited, *missing.relabelled}
    there = [record.table.paths[i] not in lost for i in record.parts["train"].tolist()]
    return with_recorded_noise(folder, parts, config.noise.kind, still_there=torch.tensor(there)) or parts


def resumed_data(folder: Path, config: DataConfig, *, progress: Progress) -> DataParts:
    """Return the data of an unfinished run, which must be what it began with.

    A run from before pictures were kept has its parts drawn as then.

    Raises ``CheckpointError`` where pictures are gone or changed, with names; else as `read_run_data`.
    """
    record = read_pictures(folder)
    if record is None:
        return load_data_by_position(config, progress=progress)
    found = load_recorded_parts(config.model_copy(update={"noise": None}), record, progress=progress)
    if found.parts.label_names != record.label_names:
        return found.parts  # refused by its classes
    lost = [
        f"{missing.lost} of the {missing.pictures} pictures of its {name} part ({missing.text()})"
        for name, missing in found.missing.items()
        if missing.lost
    ]
    if lost:
        raise CheckpointError(
            f"{folder}: the data has changed since the run began: {'; '.join(lost)}; restore the pictures, or start "
            "over with --resume never"
        )
    if found.added:
        progress.message(
            f"{folder}: {len(found.added)} files have been added to its data since it began "
            f"({first_few(found.added)}); it goes on without them"
        )
    if config.noise is None:
        return found.parts
    return _with_noise(folder, found.parts, record, found.missing["train"], config)


def warn_of_changed_data(folder: Path, config: DataConfig, *, progress: Progress) -> None:
    """Warn where the pictures of a finished run are not what they were; sizes and times are compared first.

    Raises ``CheckpointError`` where the record of its pictures is damaged.
    """
    record = read_pictures(folder)
    if record is None or not isinstance(config, PictureFilesConfig) or not is_folder(expanded(config.root)):
        return  # a result needs no data
    try:
        change = describe_changes(config, record, most_read=_READ_BY_TRAIN)
    except DataError as error:
        change = f"cannot be read any more: {error}"
    if change is not None:
        progress.warning(f"{folder}: its data {change}; the result is that of the data of then")


def check_data_folder(folder: Path, config: DataConfig) -> None:
    """Raise ``DataError`` where the folder of a run's data is not there, with the way out."""
    if not isinstance(config, PictureFilesConfig | OmniglotConfig):
        return  # found in kdcam's cache folder, or downloaded
    root = expanded(config.root)
    if not (is_folder(root) or (isinstance(config, OmniglotConfig) and exists(root))):
        relative = "" if root.is_absolute() else ", from the working folder on,"
        raise DataError(
            f"{folder}: data.root: {shown(config.root)}{relative} is no folder (any more); name the folder in which "
            f"its data lies now with {DATA_ROOT_OPTION}"
        )


def with_data_locations(config: DataConfig, changes: Mapping[str, Any] | None, folder: Path) -> DataConfig:
    """Return a run's data settings with the places where its files lie now.

    Raises ``RecipeError`` for a key that says more than where files lie, or a wrong value.
    """
    if not changes:
        return config
    known = [key for key in _LOCATION_KEYS if key in type(config).model_fields]
    for key in changes:
        if key not in known:
            raise RecipeError(
                f"data.{key}: cannot be changed for {folder}, which was trained with it; allowed: "
                f"{listed(f'data.{one}' for one in known)}, which say where the files lie now and how they are read"
            )
    try:
        return type(config).model_validate({**config.model_dump(), **changes})
    except ValidationError as error:
        raise RecipeError("; ".join(validation_messages(error, type(config), place="data"))) from None


def check_part(folder: Path, name: str, missing: MissingPictures | None, *, rest: bool) -> None:
    """Raise ``DataError`` where a part of a run's data is not what it was; with ``rest`` only where nothing is left."""
    if missing is not None and missing.lost:
        check_missing_pictures(folder, missing, f"of its {name} part", rest=rest)


def check_missing_pictures(folder: Path, missing: MissingPictures, which: str, *, rest: bool) -> None:
    """Raise ``DataError`` where pictures of a run are lost; with ``rest`` only where none is left."""
    left = missing.pictures - missing.lost
    if missing.lost and not (rest and left):
        way_out = f", or score the {left} that are left with {key_and_flag('rest')}" if left else ""
        raise DataError(f"{folder}: {_loss(missing, which)}; restore them{way_out}")


def warn_of_missing_pictures(folder: Path, missing: MissingPictures, which: str, progress: Progress) -> None:
    """Warn that only a rest of some pictures of a run is scored, where some are lost; where all are, none is scored."""
    left = missing.pictures - missing.lost
    if missing.lost and left:
        progress.warning(
            f"{folder}: {_loss(missing, which)}; the {left} of {missing.pictures} that are left count"
        )


def _loss(missing: MissingPictures, which: str) -> str:
    return (
        f"{missing.lost} of the {missing.pictures} pictures {which} are not what they were ({missing.text()})"
    )


def warn_of_no_record(folder: Path, config: DataConfig, progress: Progress) -> None:
    """Warn where a run's data lists files and the run, from before they were, has no record of its pictures."""
    if isinstance(config, PictureFilesConfig):
        progress.warning(
            f"{folder}: its pictures were not recorded when it was trained (by an earlier kdcam), so its parts are "
            "drawn again as then; where files were added, removed, renamed or changed since, pictures that it was "
            "trained on may be among those scored"
        )


def warn_of_added(folder: Path, added: Sequence[str], progress: Progress) -> None:
    """Warn where a run's data holds files now that it did not hold when the run was trained."""
    if added:
        progress.warning(
            f"{folder}: {len(added)} files of its data have been added since it was trained ({first_few(added)}); they "
            "are of none of its parts and are not scored"
        )


def _warn_of_shared(folder: Path, record: PictureRecord, name: str, progress: Progress) -> None:
    shared = record.shared(name)
    if shared:
        progress.warning(
            f"{folder}: {len(shared)} of the {len(record.parts[name])} pictures of its {name} part are copies of "
            f"pictures that it was trained on, byte for byte ({first_few(shared, most=5)}): its scores on this part "
            "are too good"
        )


def warn_of_trained(run: Path, paths: Sequence[Path], place: str, progress: Progress) -> None:
    """Warn where pictures that a run, or another network, is asked about are among those that it was trained on.

    Nothing is known of a network that is no run, nor of a run that kept no record of its pictures.
    """
    record = read_pictures(run) if exists(run / RECIPE_FILE) else None
    found = [] if record is None else trained_pictures_among(record, paths)
    if found:
        progress.warning(
            f"{place}: {len(found)} of {len(paths)} pictures are those that {run} was trained on, byte for byte "
            f"({first_few(map(shown, found))}): its scores on them are too good"
        )


def warn_of_seen(record: PictureRecord, recipe: TrainRecipe, progress: Progress) -> None:
    """Warn where a run's teachers, or the run that it is started from, were trained on pictures that it holds out."""
    for table in (*recipe.teachers, recipe.init):
        if table is None:
            continue
        network, run = table.checkpoint, expanded(table.checkpoint)
        try:
            theirs = read_pictures(run) if exists(run / RECIPE_FILE) else None
        except CheckpointError as error:
            progress.warning(f"what {network} was trained on is not known: {error}")
            continue
        trained = set() if theirs is None else theirs.keys_of("train")
        for name in ("validation", "test"):
            seen = [record.table.paths[i] for i in record.parts[name].tolist() if record.keys[i] in trained]
            if seen:
                progress.warning(
                    f"{network} was trained on {len(seen)} of the {len(record.parts[name])} pictures of the {name} "
                    f"part ({first_few(seen)}), so scores on this part are too good; take a network with the same "
                    "split (data.split_seed, data.test, data.validation)"
                )


__all__ = [
    "RunData",
    "check_data_folder",
    "check_missing_pictures",
    "check_part",
    "read_run_data",
    "resumed_data",
    "warn_of_added",
    "warn_of_changed_data",
    "warn_of_missing_pictures",
    "warn_of_no_record",
    "warn_of_seen",
    "warn_of_trained",
    "with_data_locations",
]
