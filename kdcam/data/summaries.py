"""What can be said of a data set before it is read: the preflight check's view of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kdcam.data.config import (
    CifarConfig,
    DataConfig,
    DigitScenesConfig,
    DigitsConfig,
    ImageFolderConfig,
    ImageLabelsConfig,
    MnistConfig,
    PictureFilesConfig,
    TorchvisionConfig,
    YoloLabelsConfig,
)
from kdcam.data.digits import DIGIT_NAMES, TRAIN_DIGITS
from kdcam.data.idx import FASHION_NAMES, data_root, find_idx_files
from kdcam.data.look_alikes import CIFAR10_NAMES
from kdcam.data.parts import DataSummary, class_names
from kdcam.data.splits import check_labelled, check_split, checked_split, held_out_counts

if TYPE_CHECKING:
    from kdcam.data.picture_files import ListedParts

_MNIST_TRAIN = 60_000
_CIFAR_TRAIN = 50_000


def summarise(config: DataConfig) -> DataSummary:
    """Return the summary; see ``describe_data``."""
    match config:
        case DigitsConfig():
            note = "scikit-learn's handwritten digits, from the installed package"
            return DataSummary(
                DIGIT_NAMES, 1, config.image_size, _kept(TRAIN_DIGITS, DIGIT_NAMES, config), note
            )
        case DigitScenesConfig():
            return _scenes(config)
        case MnistConfig():
            names = DIGIT_NAMES if config.name == "mnist" else FASHION_NAMES
            files = find_idx_files(config)
            place = data_root(config.root)
            note = (
                f"not in {place}: torchvision will download it"
                if files is None
                else f"read from {files[0].parent}"
            )
            return DataSummary(
                names, 1, config.image_size, _kept(_MNIST_TRAIN, names, config), f"{config.name}: {note}"
            )
        case CifarConfig():
            names = CIFAR10_NAMES if config.name == "cifar10" else class_names(range(100))
            return DataSummary(
                names, 3, config.image_size, _kept(_CIFAR_TRAIN, names, config), _by_torchvision(config)
            )
        case ImageFolderConfig():
            return _image_folder(config)
        case ImageLabelsConfig():
            from kdcam.data.image_labels import list_labelled

            return _rows(config, list_labelled(config))
        case YoloLabelsConfig():
            from kdcam.data.yolo_labels import list_yolo

            return _rows(config, list_yolo(config))
        case TorchvisionConfig():
            return _torchvision(config)


def _kept(count: int, names: Sequence[str], config: DataConfig) -> int:
    counts = [count // len(names)] * len(names)  # as near as need be: these sets are balanced
    check_split(counts, config.validation, key="validation", place=f"data ({config.name})")
    return count - round(config.validation * count)


def _scenes(config: DigitScenesConfig) -> DataSummary:
    from kdcam.data.scenes import scene_counts

    train, validation = scene_counts(config)
    note = f"drawn scenes: {train} for training, {validation} for validation, {config.test_size} for test"
    return DataSummary(DIGIT_NAMES, 1, config.image_size, train, note)


def _image_folder(config: ImageFolderConfig) -> DataSummary:
    from kdcam.data.folders import class_counts, list_images

    listing = list_images(config.root)
    counts = class_counts(listing.train, len(listing.label_names))
    notes = [f"{config.root}: {len(listing.label_names)} classes", f"{sum(counts)} files to train on"]
    for key, share, entries in (
        ("test", config.test, listing.test),
        ("validation", config.validation, listing.validation),
    ):
        if entries is not None:
            notes.append(f"{len(entries)} in the {key} folder")
            continue
        check_split(counts, share, key=key, place=f"data ({config.root})")
        held = held_out_counts(counts, share)
        notes.append(f"{sum(held)} of them held out for {key}")
        counts = _difference(counts, held)
    return DataSummary(
        listing.label_names,
        config.channels,
        config.image_size,
        sum(counts),
        ", ".join(notes),
        own_validation=listing.validation is not None,
    )


def _difference(counts: Sequence[int], held: Sequence[int]) -> list[int]:
    return [count - part for count, part in zip(counts, held, strict=True)]


def _rows(config: PictureFilesConfig, listed: "ListedParts") -> DataSummary:
    """Return the summary of pictures with several labels each; the split is made, since it tells the counts."""
    targets, names = listed.train.targets, listed.label_names
    notes = [f"{config.root}: {len(names)} classes, several a picture", f"{len(targets)} files to train on"]
    for key, share, part in (
        ("test", config.test, listed.test),
        ("validation", config.validation, listed.validation),
    ):
        if part is not None:
            notes.append(f"{len(part.targets)} for {key}")
        elif share > 0:
            place = f"data ({config.root})"
            kept, held = checked_split(
                targets, num_classes=len(names), share=share, seed=config.split_seed, key=key, place=place
            )
            notes.append(f"{len(held)} of them held out for {key}")
            targets = targets[kept]
    check_labelled(targets)
    unlabelled = int((targets.sum(1) == 0).sum())
    absent = int((targets.sum(0) == 0).sum())
    notes += [f"{unlabelled} to train on without a label"] * (unlabelled > 0)
    notes += [f"{absent} classes without a picture to train on"] * (absent > 0)
    return DataSummary(
        names,
        config.channels,
        config.image_size,
        len(targets),
        ", ".join(notes),
        own_validation=listed.validation is not None,
    )


def _torchvision(config: TorchvisionConfig) -> DataSummary:
    from kdcam.data.torchvision_sets import SETS

    known = SETS[config.name.removeprefix("torchvision:")]
    names = class_names(range(known.classes))  # their names are known only once the files are there
    own_validation = known.parts[1] is not None
    return DataSummary(
        names, known.channels, config.image_size, None, _by_torchvision(config), own_validation
    )


def _by_torchvision(config: CifarConfig | TorchvisionConfig) -> str:
    place = data_root(config.root)
    return f"{config.name}: read by torchvision in {place}, downloaded if it is not there"


__all__ = ["summarise"]
