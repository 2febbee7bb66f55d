"""What can be said of a data set before it is read: the preflight check's view of it."""

from collections.abc import Sequence

from kdcam.data.common_config import PictureFilesConfig
from kdcam.data.dataset_parts import DataSummary, absent_text, class_names, images_per_class
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
from kdcam.data.sources.cifar_classes import CIFAR10_NAMES, CIFAR100_NAMES
from kdcam.data.sources.digit_scenes import scene_counts
from kdcam.data.sources.digits import DIGIT_NAMES, TRAIN_DIGITS
from kdcam.data.sources.image_folder import class_counts, list_images
from kdcam.data.sources.image_labels import list_labelled
from kdcam.data.sources.mnist import FASHION_NAMES, data_root, find_idx_files
from kdcam.data.sources.omniglot import alphabets_of, list_characters
from kdcam.data.sources.picture_files import ListedParts
from kdcam.data.sources.torchvision_sets import SETS
from kdcam.data.sources.yolo_labels import list_yolo
from kdcam.data.splits.class_split import classes_of, read_class_parts
from kdcam.data.splits.fractions import fraction_count, fraction_of
from kdcam.data.splits.held_out import check_labelled, check_split, held_out_counts
from kdcam.settings.messages import first_few

_MNIST_TRAIN = 60_000
_CIFAR_TRAIN = 50_000


def summarise_source(config: DataConfig) -> DataSummary:
    """Return the summary; see ``describe_data``."""
    summary = _summary(config)
    if config.class_split is not None:
        number, part = len(summary.label_names), config.class_split.part
        note = f"{summary.note}; of them the {number} {part} classes of data.class_split"
        if isinstance(config, DigitsConfig | DigitScenesConfig | MnistConfig):
            note += " (images counted as if all classes were equally large)"
        summary = summary._replace(note=note)
    return _fraction(summary, config) if config.fraction < 1 else summary


def _fraction(summary: DataSummary, config: DataConfig) -> DataSummary:
    note, images = f"of the training images the fraction {config.fraction:g}", summary.train_images
    if images is not None:
        fewest = 1 if config.gives_rows else len(summary.label_names)
        images = fraction_count(
            images, fewest=fewest, fraction=config.fraction, place=f"data ({config.name})"
        )
        note = f"{note}, {images}"
    return summary._replace(train_images=images, note=f"{summary.note}; {note}")


def _summary(config: DataConfig) -> DataSummary:
    match config:
        case DigitsConfig():
            note = "scikit-learn's handwritten digits, from the installed package"
            return _balanced(config, DIGIT_NAMES, 1, TRAIN_DIGITS, note)
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
            return _balanced(config, names, 1, _MNIST_TRAIN, f"{config.name}: {note}")
        case CifarConfig():
            names = CIFAR10_NAMES if config.name == "cifar10" else class_names(range(100))
            if config.class_split is not None and config.name == "cifar100":
                names = CIFAR100_NAMES
            return _balanced(config, names, 3, _CIFAR_TRAIN, _by_torchvision(config))
        case OmniglotConfig():
            return _omniglot(config)
        case ImageFolderConfig():
            return _image_folder(config)
        case ImageLabelsConfig():
            return _rows(config, list_labelled(config))
        case YoloLabelsConfig():
            return _rows(config, list_yolo(config))
        case TorchvisionConfig():
            return _torchvision(config)


def _balanced(
    config: DigitsConfig | MnistConfig | CifarConfig,
    all_names: Sequence[str],
    channels: int,
    count: int,
    note: str,
) -> DataSummary:
    """Return the summary of a set of ``count`` training images in equal classes, as near as need be."""
    names = classes_of(config, all_names)
    count = count * len(names) // len(all_names)
    counts = [count // len(names)] * len(names)
    check_split(counts, config.validation, key="validation", place=f"data ({config.name})")
    return DataSummary(names, channels, config.image_size, count - round(config.validation * count), note)


def _scenes(config: DigitScenesConfig) -> DataSummary:
    train, validation = scene_counts(config)
    note = f"drawn scenes: {train} for training, {validation} for validation, {config.test_size} for test"
    names = classes_of(config, DIGIT_NAMES)
    return DataSummary(names, 1, config.image_size, train * len(names) // len(DIGIT_NAMES), note)


def _omniglot(config: OmniglotConfig) -> DataSummary:
    drawings = {character.name: len(character.drawings) for character in list_characters(config.root)}
    names = classes_of(config, tuple(drawings))
    counts = [drawings[name] for name in names]
    notes = [f"{config.root}: {len(drawings)} characters of {alphabets_of(tuple(drawings))}"]
    notes.append(f"{sum(counts)} drawings to train on")
    for key, share in (("test", config.test), ("validation", config.validation)):
        check_split(counts, share, key=key, place=f"data ({config.root})")
        held = held_out_counts(counts, share)
        notes.append(f"{sum(held)} of them held out for {key}")
        counts = _difference(counts, held)
    return DataSummary(names, 1, config.image_size, sum(counts), ", ".join(notes))


def _image_folder(config: ImageFolderConfig) -> DataSummary:
    listing = list_images(config.root)
    if config.class_split is not None:
        listing = listing.of_classes(classes_of(config, listing.label_names))
    counts = class_counts(listing.train, len(listing.label_names))
    names = listing.label_names
    notes = [
        f"{config.root}: {len(names)} classes ({first_few(names, most=5)})",
        f"{sum(counts)} files to train on",
    ]
    warnings = list[str | None]()
    for key, share, entries in (
        ("test", config.test, listing.test),
        ("validation", config.validation, listing.validation),
    ):
        if entries is not None:
            notes.append(f"{len(entries)} in the {key} folder")
            warnings.append(absent_text(key, class_counts(entries, len(names)), names))
            continue
        check_split(counts, share, key=key, place=f"data ({config.root})")
        held = held_out_counts(counts, share)
        notes.append(f"about {sum(held)} of them held out for {key}")  # their keys are not known yet
        counts = _difference(counts, held)
    return DataSummary(
        names,
        config.channels,
        config.image_size,
        sum(counts),
        ", ".join(notes),
        own_validation=listing.validation is not None,
        warnings=tuple(filter(None, warnings)),
    )


def _difference(counts: Sequence[int], held: Sequence[int]) -> list[int]:
    return [count - part for count, part in zip(counts, held, strict=True)]


def _rows(config: PictureFilesConfig, listed: ListedParts) -> DataSummary:
    """Return the summary of pictures with several labels each, of which some may be held out by their keys."""
    targets, names, place = listed.train.targets, listed.label_names, f"data ({config.root})"
    images = len(targets)
    notes = [f"{config.root}: {len(names)} classes, several a picture", f"{images} files to train on"]
    warnings = list[str | None]()
    for key, share, part in (
        ("test", config.test, listed.test),
        ("validation", config.validation, listed.validation),
    ):
        if part is not None:
            notes.append(f"{len(part.targets)} for {key}")
            warnings.append(absent_text(key, images_per_class(part.targets, len(names)), names))
        elif share > 0:
            check_split([images], share, key=key, place=place)
            held = round(share * images)
            notes.append(f"about {held} of them held out for {key}")
            images -= held
    check_labelled(targets)
    if config.fraction < 1:  # refused as on reading where it is too small
        fraction_of(targets, fraction=config.fraction, seed=config.split_seed, place=place)
    unlabelled = int((targets.sum(1) == 0).sum())
    absent = int((targets.sum(0) == 0).sum())
    notes += [f"{unlabelled} to train on without a label"] * (unlabelled > 0)
    notes += [f"{absent} classes without a picture to train on"] * (absent > 0)
    return DataSummary(
        names,
        config.channels,
        config.image_size,
        images,
        ", ".join(notes),
        own_validation=listed.validation is not None,
        warnings=tuple(filter(None, warnings)),
    )


def _torchvision(config: TorchvisionConfig) -> DataSummary:
    known = SETS[config.name.removeprefix("torchvision:")]
    names = classes_of(config, _torchvision_names(config, known.classes))
    own_validation = known.parts[1] is not None
    return DataSummary(
        names, known.channels, config.image_size, None, _by_torchvision(config), own_validation
    )


def _torchvision_names(config: TorchvisionConfig, classes: int) -> tuple[str, ...]:
    """Return the names of the classes, numbers where they are known only once the files are there."""
    split = config.class_split
    if split is None or split.file is None:
        return class_names(range(classes))
    return tuple(read_class_parts(split.file))


def _by_torchvision(config: CifarConfig | TorchvisionConfig) -> str:
    place = data_root(config.root)
    return f"{config.name}: read by torchvision in {place}, downloaded if it is not there"


__all__ = ["summarise_source"]
