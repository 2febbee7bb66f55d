"""Images of another data set, as a run's classifier takes them: to see whether it knows that they are not its own."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from kdcam.api import LoadedRun, recipe_of
from kdcam.corruptions.colour import gray_of
from kdcam.data.batches.batch import Batches, ChangedBatches
from kdcam.data.dataset_parts import Part
from kdcam.data.datasets import batches, load_data
from kdcam.data.source_configs import DATA_NAMES, DataConfig
from kdcam.errors import DataError, RecipeError
from kdcam.evaluation.robustness.out_of_distribution import unlabelled_batches
from kdcam.files.folder_listing import files_below
from kdcam.files.paths import exists, expanded, is_folder
from kdcam.runs.run_data import check_part, read_run_data, warn_of_trained
from kdcam.runs.run_files import RECIPE_FILE
from kdcam.runtime.progress import Progress
from kdcam.settings.frozen_settings import Settings
from kdcam.settings.messages import did_you_mean, listed
from kdcam.settings.recipe_errors import validation_messages

# What was done to another run's training images and labels; its test part has none of it.
_OF_TRAINING = {"augment", "cutmix", "mixup", "noise"}


class _Foreign(Settings):
    data: DataConfig


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] with 1 or 3 channels."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    return gray_of(images)


def foreign_batches(named: str, loaded: LoadedRun, *, batch_size: int, progress: Progress) -> Batches:
    """Return the images that ``named`` stands for, in a run's size and channels.

    Args:
        named: a run folder (its test part), a folder of pictures, or a data set's name, with its folder where it
            needs one: ``fashion-mnist=FOLDER``.
        loaded: the run that is to take them.
        batch_size: images at a time.
        progress: who watches.

    Raises ``RecipeError`` where it is nothing of these, ``DataError`` where the data cannot be read or has no
    test part.
    """
    classifier = loaded.classifier
    size, channels, device = classifier.image_size, classifier.in_channels, classifier.mean.device
    folder = expanded(named)
    if is_picture_folder(named):
        warn_of_trained(loaded.path, files_below(folder), f"ood {named}", progress)
        return unlabelled_batches(
            folder,
            image_size=size,
            channels=channels,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    config = foreign_config(named, size)
    test = _test_part(folder, config, rest=loaded.rest, progress=progress)
    if test is None:
        raise DataError(f"ood: {named} has no test part; name a folder of pictures, or data with a test part")
    found = batches(test, batch_size=batch_size, training=False, config=config, seed=0, device=device)
    return ChangedBatches(found, lambda batch: batch._replace(images=with_channels(batch.images, channels)))


def _test_part(folder: Path, config: DataConfig, *, rest: bool, progress: Progress) -> Part | None:
    """Return the test part of a run as it was when it was made, or of a data set."""
    if not is_folder(folder):
        return load_data(config, progress=progress).test
    read = read_run_data(folder, config, progress=progress)
    check_part(folder, "test", read.lacks.get("test"), rest=rest)
    return read.parts.test


def is_picture_folder(named: str) -> bool:
    """Return whether a folder is named that is no run."""
    folder = expanded(named)
    return is_folder(folder) and not exists(folder / RECIPE_FILE)


def foreign_config(named: str, size: int) -> DataConfig:
    """Return the settings of the data that a run or a name stands for, its images ``size`` pixels a side.

    Raises ``RecipeError`` where it is neither, or the data has no images of that size.
    """
    folder = expanded(named)
    table: dict[str, Any]
    if is_folder(folder):
        table = recipe_of(folder).data.model_dump(exclude=_OF_TRAINING)
    else:
        name, equals, root = named.partition("=")
        if name not in DATA_NAMES and not name.startswith("torchvision:"):
            raise RecipeError(
                f"ood: found {named!r}{did_you_mean(name, DATA_NAMES)}; must be a folder of pictures, a run, or one "
                f"of {listed(DATA_NAMES)} (with its folder as in fashion-mnist=FOLDER)"
            )
        table = {"name": name, **({"root": root} if equals else {})}
    try:
        return _Foreign.model_validate({"data": {**table, "image_size": size}}).data
    except ValidationError as error:
        raise RecipeError("; ".join(validation_messages(error, _Foreign, place="ood"))) from None


__all__ = ["foreign_batches", "foreign_config", "is_picture_folder", "with_channels"]
