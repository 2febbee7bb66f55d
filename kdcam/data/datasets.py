"""From a recipe's [data] table to parts and batches: ``load_data``, ``describe_data``, ``batches``."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kdcam.data.batches.batch import Batches, Views
from kdcam.data.batches.decoding import bad_image_reason
from kdcam.data.batches.episodes import EpisodeOrder
from kdcam.data.batches.image_digests import keys_in, path_from
from kdcam.data.batches.resident import ResidentBatches, ResidentImages
from kdcam.data.batches.streaming import StreamBatches
from kdcam.data.common_config import PictureConfig, PictureFilesConfig
from kdcam.data.dataset_parts import DataParts, DataSummary, Part, PictureTable, SourceParts
from kdcam.data.label_noise import TrainingImages, add_noise, check_noise
from kdcam.data.source_configs import (
    CifarConfig,
    DataConfig,
    DigitScenesConfig,
    DigitsConfig,
    ImageFolderConfig,
    ImageLabelsConfig,
    MnistConfig,
    OmniglotConfig,
    TorchvisionConfig,
    YoloLabelsConfig,
)
from kdcam.data.sources.digit_scenes import load_digit_scenes
from kdcam.data.sources.digits import load_digits
from kdcam.data.sources.image_folder import list_folder, load_image_folder
from kdcam.data.sources.image_labels import list_labelled, load_image_labels
from kdcam.data.sources.mnist import load_mnist
from kdcam.data.sources.omniglot import load_omniglot
from kdcam.data.sources.picture_files import ListedParts
from kdcam.data.sources.summaries import summarise_source
from kdcam.data.sources.torchvision_sets import load_cifar, load_torchvision
from kdcam.data.sources.yolo_labels import list_yolo, load_yolo
from kdcam.data.splits.class_split import classes_of, select_source_classes
from kdcam.data.splits.fractions import fraction_of
from kdcam.data.splits.held_out import check_labelled, checked_split, held_out_by_keys, interleave_classes
from kdcam.errors import DataError
from kdcam.files.paths import expanded
from kdcam.runtime.progress import Progress, Silent
from kdcam.settings.messages import first_few

SAMPLE = 64  # pictures that a dry run decodes; kdcam's choice


def load_data(config: DataConfig, *, progress: Progress | None = None) -> DataParts:
    """Return the data set that ``config`` names, read, split (stratified, seeded) and with its label noise.

    Pictures of listed files are held out by their keys, see `held_out_by_keys`; those of sets with a fixed order by
    their position in it.

    Raises:
        DataError: files are missing or broken, a class has no training image (of several labels an image: no
            training image has a label), a share holds out no image, a fraction keeps too few, or label noise or class
            split do not fit.
    """
    return prepare_parts(load_source(config, progress or Silent()), config)


def load_data_by_position(config: DataConfig, *, progress: Progress | None = None) -> DataParts:
    """Return what `load_data` gave before pictures had keys: all are held out by their position in the list of files.

    For runs that kept no keys of their pictures; arguments and errors as those of `load_data`.
    """
    return prepare_parts(load_source(config, progress or Silent()).unkeyed(), config)


def prepare_parts(whole: SourceParts, config: DataConfig) -> DataParts:
    """Return what ``config`` makes of all that its source holds: see `load_data`."""
    source, positions = whole, torch.arange(len(whole.train))
    if config.class_split is not None:
        source, positions = select_source_classes(whole, classes_of(config, whole.label_names))
    source, kept = _held_out(source, config)
    positions = positions[kept]
    _check_classes(source)
    if config.fraction < 1:
        source, kept = _fraction(source, config)
        positions = positions[kept]
    noise, train = None, source.train
    if config.noise is not None:
        root = expanded(config.root) if isinstance(config, PictureFilesConfig) else None
        images = TrainingImages(positions, len(whole.train), root, train.paths)
        noise = add_noise(train.targets, config.noise, label_names=source.label_names, images=images)
        train = replace(train, targets=noise.noisy)
    return DataParts(
        train=train,
        validation=source.validation,
        test=None if source.test is None else _interleaved(source.test),
        label_names=source.label_names,
        channels=source.channels,
        image_size=config.image_size,
        noise=noise,
        skipped=source.skipped,
        table=_table(whole, config),
    )


def _table(whole: SourceParts, config: DataConfig) -> PictureTable | None:
    """Return all files of a source that lists them; None: it does not, or they have no keys."""
    if whole.train.keys is None or not isinstance(config, PictureFilesConfig):
        return None
    parts = whole.present()
    root = expanded(config.root)
    return PictureTable(
        tuple(path_from(root, path) for part in parts for path in part.paths or ()),
        torch.cat([part.keys for part in parts if part.keys is not None]),
        torch.cat([part.stamps for part in parts if part.stamps is not None]),
        torch.cat([part.targets for part in parts]),
        whole.label_names,
        tuple(path_from(root, path) for path in whole.unread),
    )


def load_source(config: DataConfig, progress: Progress) -> SourceParts:
    """Return all that a source holds, in the parts its authors made; of all classes, without noise.

    Raises ``DataError`` where files are missing or broken.
    """
    match config:
        case DigitsConfig():
            return load_digits(config)
        case DigitScenesConfig():
            return load_digit_scenes(config, progress=progress)
        case MnistConfig():
            return load_mnist(config)
        case CifarConfig():
            return load_cifar(config)
        case OmniglotConfig():
            return load_omniglot(config, progress=progress)
        case ImageFolderConfig():
            return load_image_folder(config, progress=progress)
        case ImageLabelsConfig():
            return load_image_labels(config, progress=progress)
        case YoloLabelsConfig():
            return load_yolo(config, progress=progress)
        case TorchvisionConfig():
            return load_torchvision(config, progress=progress)


def _held_out(source: SourceParts, config: DataConfig) -> tuple[SourceParts, Tensor]:
    """Return the source with its parts made, and where each training image (N,) stood before."""
    positions = torch.arange(len(source.train))
    if isinstance(config, DigitScenesConfig):
        return source, positions  # its parts are made of disjoint source digits from the start
    if source.train.keys is not None:
        return _held_out_by_keys(source, keys_in(source.train.keys), config)
    if source.test is None and source.test_share > 0:
        kept, held = _split(source, source.test_share, "test", config)
        source = source._replace(train=source.train.subset(kept), test=source.train.subset(held))
        positions = positions[kept]
    if source.validation is None and config.validation > 0:
        kept, held = _split(source, config.validation, "validation", config)
        source = source._replace(train=source.train.subset(kept), validation=source.train.subset(held))
        positions = positions[kept]
    return source, positions


def _held_out_by_keys(
    source: SourceParts, keys: Sequence[bytes], config: DataConfig
) -> tuple[SourceParts, Tensor]:
    held = held_out_by_keys(
        keys,
        source.train.targets,
        label_names=source.label_names,
        test=source.test_share if source.test is None else 0.0,
        validation=config.validation if source.validation is None else 0.0,
        seed=config.split_seed,
        place=f"data ({config.name})",
    )
    free = torch.ones(len(keys), dtype=torch.bool)
    free[torch.cat([held.test, held.validation])] = False
    kept = free.nonzero().flatten()
    found = source._replace(train=source.train.subset(kept))
    if len(held.test):
        found = found._replace(test=source.train.subset(held.test))
    if len(held.validation):
        found = found._replace(validation=source.train.subset(held.validation))
    return found, kept


def _split(source: SourceParts, share: float, key: str, config: DataConfig) -> tuple[Tensor, Tensor]:
    return checked_split(
        source.train.targets,
        num_classes=len(source.label_names),
        share=share,
        seed=config.split_seed,
        key=key,
        place=f"data ({config.name})",
    )


def _fraction(source: SourceParts, config: DataConfig) -> tuple[SourceParts, Tensor]:
    """Return the source with a fraction of its training images, and where they (N,) stood before."""
    kept = fraction_of(
        source.train.targets,
        fraction=config.fraction,
        seed=config.split_seed,
        place=f"data ({config.name})",
        keys=None if source.train.keys is None else keys_in(source.train.keys),
    )
    return source._replace(train=source.train.subset(kept)), kept


def _interleaved(part: Part) -> Part:
    """Return a part that comes class by class with its classes in turn; any other one as it is.

    Else the first images of the part, which attacks are run on, would be of one class.
    """
    if part.targets.ndim != 1 or not bool((part.targets.diff() >= 0).all()):
        return part
    return part.subset(interleave_classes(part.targets))


def _check_classes(source: SourceParts) -> None:
    targets, num_classes = source.train.targets, len(source.label_names)
    if targets.ndim == 2:  # classes without a picture are usual here: COCO has 80, and a picture shows three
        check_labelled(targets)
        return
    counts = torch.bincount(targets, minlength=num_classes)
    if len(counts) > num_classes:
        raise DataError(f"data: holds the label {len(counts) - 1}, but there are {num_classes} classes")
    missing = [source.label_names[k] for k in (counts == 0).nonzero().flatten().tolist()]
    if missing:
        left_out = f" ({len(source.skipped)} bad files were left out)" if source.skipped else ""
        raise DataError(
            "data: no training image of class "
            f"{first_few(map(repr, missing), most=5)}{left_out}; add images of it "
            "or remove the class"
        )


def batches(
    part: Part,
    *,
    batch_size: int,
    training: bool,
    config: DataConfig,
    seed: int,
    device: torch.device,
    views: Views | None = None,
    episodes: EpisodeOrder | None = None,
) -> Batches:
    """Return the batches of a part on ``device``.

    Training batches are shuffled and augmented as ``config`` says, and a last batch of a single image is left
    out (BatchNorm cannot be trained on one image). Evaluation batches come in order, whole and unchanged.

    With ``views`` each training image is one of its seeded views, drawn anew at each step; without ``training`` epoch
    v is then view v of every image, in order. With ``episodes`` (in training) each batch is the episode that these
    draw, of their size.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; allowed: 1 or more")
    if isinstance(part.images, ResidentImages):
        return ResidentBatches(
            part.images,
            part.targets,
            batch_size=batch_size,
            training=training,
            augment=config.augment,
            seed=seed,
            device=device,
            views=views,
            episodes=episodes,
        )
    assert isinstance(config, PictureConfig)
    return StreamBatches(
        part.images,
        part.targets,
        batch_size=batch_size,
        training=training,
        augment=config.augment,
        workers=config.workers,
        seed=seed,
        device=device,
        views=views,
        episodes=episodes,
    )


def describe_data(config: DataConfig) -> DataSummary:
    """Return what is known before any image is read: folders are listed, nothing is decoded or downloaded.

    Raises:
        DataError: a folder is missing or wrong, a share would hold out no image, or the label noise does not fit.
    """
    summary = summarise_source(config)
    if config.noise is not None:
        # These names are known only once the files are there: until then the summary counts the classes.
        unnamed = isinstance(config, TorchvisionConfig) or config.name == "cifar100"
        check_noise(
            config.noise,
            num_classes=len(summary.label_names),
            label_names=None if unnamed else summary.label_names,
        )
    return summary


def decode_sample(config: DataConfig, *, most: int = SAMPLE) -> str | None:
    """Decode some of the pictures that a source lists, spread over its list, and return how many of how many.

    None: the source lists no files. Bad ones that ``on_bad_image = "skip"`` would leave out are counted.

    Raises:
        DataError: the files cannot be listed, or one of those decoded is bad and none is to be skipped.
    """
    if not isinstance(config, PictureFilesConfig):
        return None
    paths = [path for part in list_source(config).present() for path in part.paths]
    chosen = [paths[index * len(paths) // most] for index in range(most)] if len(paths) > most else paths
    bad = [reason for reason in map(bad_image_reason, chosen) if reason is not None]
    if bad and config.on_bad_image == "error":
        raise DataError(
            f"data: {len(bad)} of {len(chosen)} pictures decoded, out of {len(paths):,}, cannot be read: "
            f'{first_few(bad, between="; ")}. Remove or replace them, or set data.on_bad_image = "skip" to leave bad '
            "ones out"
        )
    return f"{len(chosen):,} of {len(paths):,} decoded" + (f", {len(bad)} of them bad" if bad else "")


def list_source(config: PictureFilesConfig) -> ListedParts:
    """Return the files of a source that lists files, none of them opened.

    Raises ``DataError`` where these cannot be listed.
    """
    match config:
        case ImageFolderConfig():
            return list_folder(config)
        case ImageLabelsConfig():
            return list_labelled(config)
        case YoloLabelsConfig():
            return list_yolo(config)
    raise TypeError(f"{type(config).__name__} lists no files")


__all__ = [
    "batches",
    "decode_sample",
    "describe_data",
    "list_source",
    "load_data",
    "load_data_by_position",
    "load_source",
    "prepare_parts",
]
