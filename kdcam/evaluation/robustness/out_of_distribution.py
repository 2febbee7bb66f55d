"""Whether a classifier's scores tell images like those it was trained on from images of another data set."""

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from kdcam.corruptions.corruption_functions import gray_of
from kdcam.data.batches.batch import Batches, ChangedBatches, epoch_order
from kdcam.data.batches.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.data.dataset_parts import Part
from kdcam.data.datasets import batches, load_data
from kdcam.data.source_configs import DATA_NAMES, DataConfig
from kdcam.data.sources.picture_files import readable_pictures
from kdcam.errors import DataError, RecipeError
from kdcam.files.folder_listing import files_below
from kdcam.files.paths import exists, expanded, is_folder
from kdcam.runs.open_run import LoadedRun, recipe_of
from kdcam.runs.run_data import check_part, read_run_data, warn_of_trained
from kdcam.runs.run_files import RECIPE_FILE
from kdcam.runtime.numerics import require_finite_outputs
from kdcam.runtime.progress import Progress
from kdcam.scores.ranking import auroc, fpr_at_95
from kdcam.settings.messages import did_you_mean, listed
from kdcam.settings.validation import Settings, validation_messages

ScoreName = Literal["max_softmax", "energy"]

# What was done to another run's training images and labels; its test part has none of it.
_OF_TRAINING = {"augment", "cutmix", "mixup", "noise"}


class DetectionRow(BaseModel, frozen=True):
    """How well one score tells the two data sets apart; images of the classifier's own are the positives."""

    score: ScoreName
    auroc: float  # chance that an own image scores above a foreign one, ties half; 0.5: blind
    fpr_at_95: float  # share of foreign images let in by the threshold that lets in 95 % of the own


class OutOfDistributionReport(BaseModel, frozen=True):
    """What a classifier's scores say of images of another data set."""

    own_images: int
    foreign_images: int
    rows: tuple[DetectionRow, ...]


def out_of_distribution_report(own_logits: Tensor, foreign_logits: Tensor) -> OutOfDistributionReport:
    """Return how well max-softmax and energy tell own images (N, K) from foreign ones (M, K), by their logits.

    Raises ``DataError`` where there are no images of one of them, ``ModelError`` where logits are not finite.
    """
    for logits, whose in ((own_logits, "own"), (foreign_logits, "foreign")):
        if logits.ndim != 2 or len(logits) == 0:
            raise DataError(
                f"out of distribution: logits of the {whose} images have shape {tuple(logits.shape)}; it needs "
                "(N, K) of at least one image"
            )
        require_finite_outputs(logits, f"out of distribution, {whose} images")
    return OutOfDistributionReport(
        own_images=len(own_logits),
        foreign_images=len(foreign_logits),
        rows=(
            _row("max_softmax", max_softmax(own_logits), max_softmax(foreign_logits)),
            _row("energy", energy(own_logits), energy(foreign_logits)),
        ),
    )


def _row(score: ScoreName, own: Tensor, foreign: Tensor) -> DetectionRow:
    area = auroc(own, foreign)
    assert area is not None  # both have images
    return DetectionRow(score=score, auroc=area, fpr_at_95=fpr_at_95(own, foreign))


def max_softmax(logits: Tensor) -> Tensor:
    """Return the top probability (N,) of logits (N, K), in float64.

    Source: Hendrycks and Gimpel 2017, arXiv 1610.02136.
    """
    return logits.double().softmax(1).amax(1)


def energy(logits: Tensor) -> Tensor:
    """Return logsumexp(logits), (N,) in float64: the negative of the energy, high for images like the own.

    Source: Liu et al. 2020, arXiv 2010.03759, eq. 4 with T = 1.
    """
    return torch.logsumexp(logits.double(), dim=1)


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
    check_part(folder, "test", read.missing.get("test"), rest=rest)
    return read.parts.test


def is_picture_folder(named: str) -> bool:
    """Return whether a folder is named that is no run."""
    folder = expanded(named)
    return is_folder(folder) and not exists(folder / RECIPE_FILE)


class _Foreign(Settings):
    data: DataConfig


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


def unlabelled_batches(
    folder: Path,
    *,
    image_size: int,
    channels: int,
    batch_size: int,
    device: torch.device,
    progress: Progress,
) -> Batches:
    """Return the batches of all pictures below a folder, as evaluation sees them; all labels are -1.

    In a shuffled order, always the same: the first images come from everywhere in the folder. Files that are no
    pictures or cannot be read are left out, and ``progress`` is told.

    Raises ``DataError`` where there is no picture that can be read.
    """
    if not is_folder(folder):
        raise DataError(
            f"out of distribution: {folder} is {'a file' if exists(folder) else 'not there'}; name a folder of "
            "pictures"
        )
    paths = readable_pictures([folder], progress=progress)
    images = StreamImages(
        FilePictures(paths),
        image_size=image_size,
        channels=channels,
        order=epoch_order(len(paths), seed=0, epoch=0),
    )
    labels = torch.full((len(paths),), -1)
    return StreamBatches.in_order(images, labels, batch_size=batch_size, device=device)


def with_channels(images: Tensor, channels: int) -> Tensor:
    """Return images (N, C, H, W) in [0, 1] with 1 or 3 channels."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    return gray_of(images)


__all__ = [
    "DetectionRow",
    "OutOfDistributionReport",
    "ScoreName",
    "energy",
    "foreign_batches",
    "foreign_config",
    "is_picture_folder",
    "max_softmax",
    "out_of_distribution_report",
    "unlabelled_batches",
    "with_channels",
]
