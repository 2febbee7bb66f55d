"""Where the images of classes come from that a run has never seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from kdcam.data.batches.image_digests import images_digest, keys_in
from kdcam.data.batches.streaming import FilePictures, StreamImages
from kdcam.data.dataset_parts import Part
from kdcam.data.datasets import load_source
from kdcam.data.novel_class_images import check_each_class, join_parts, novel_classes, novel_names
from kdcam.data.source_configs import DataConfig, ImageFolderConfig
from kdcam.errors import DataError, RecipeError
from kdcam.models.classifier import Classifier
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.part_recovery import load_left_out
from kdcam.runs.picture_record import read_pictures
from kdcam.runs.provenance import provenance_of
from kdcam.runs.run_data import (
    check_data_folder,
    check_missing_pictures,
    warn_of_added,
    warn_of_missing_pictures,
    warn_of_no_record,
    warn_of_trained,
)
from kdcam.runtime.progress import Progress
from kdcam.settings.validation import validation_messages


class UnseenClasses(NamedTuple):
    """Images of classes that a run has never seen, as its network takes them."""

    source: str  # in words
    part: Part
    label_names: tuple[str, ...]
    config: DataConfig  # how they are decoded


def has_unseen_classes(recipe: TrainRecipe | None) -> bool:
    """Return whether a run's own data holds classes that it was not trained on."""
    return recipe is not None and recipe.data.class_split is not None


def unseen_of_split(
    run: Path,
    config: DataConfig,
    classes: Literal["novel", "validation"],
    trained_on: Sequence[str],
    *,
    rest: bool = False,
    progress: Progress,
) -> UnseenClasses:
    """Return the novel or validation classes of a run's own data, the pictures that these held when it was trained.

    With ``rest`` those that are left, where some are gone or changed.

    Raises ``DataError`` where there are none, some are gone or changed, or where the split would train on other classes
    now than ``trained_on``.
    """
    check_data_folder(run, config)
    source = f"{classes} classes of {config.name}"
    record = read_pictures(run)
    if record is None:
        warn_of_no_record(run, config, progress)
        part, names = novel_classes(config, classes, trained_on=trained_on, progress=progress)
        return UnseenClasses(source, part, names, config)
    names = novel_names(config, record.table.label_names, classes, trained_on=trained_on)
    part, missing, added = load_left_out(config, record, names, progress=progress)
    which = f"of its {classes} classes"
    check_missing_pictures(run, missing, which, rest=rest)
    warn_of_missing_pictures(run, missing, which, progress)
    warn_of_added(run, added, progress)
    check_each_class(config, part, names, classes)
    return UnseenClasses(source, part, names, config)


def unseen_in_folder(folder: Path, classifier: Classifier, *, progress: Progress) -> UnseenClasses:
    """Return the pictures of a folder of class folders, in a network's size and channels.

    Those below train/, val/ and test/ count together, where the folder has these.

    Raises ``DataError`` where it is no such folder or a picture cannot be read, ``RecipeError`` where the network
    takes pictures of a size or of channels that files are not read in.
    """
    table = {
        "root": folder,
        "image_size": classifier.image_size,
        "channels": classifier.in_channels,
        "validation": 0.0,
        "test": 0.0,
    }
    try:
        config = ImageFolderConfig.model_validate(table)
    except ValidationError as error:
        raise RecipeError(
            "; ".join(validation_messages(error, ImageFolderConfig, place=f"data {folder}"))
        ) from None
    source = load_source(config, progress)
    parts = [part for part in (source.train, source.validation, source.test) if part is not None]
    return UnseenClasses(str(folder), join_parts(parts), source.label_names, config)


def check_unseen(unseen: UnseenClasses, run: Path, *, progress: Progress) -> None:
    """Check that a run has not seen the classes, by their names: nor any network that it learned from.

    What it learned from is followed as by `provenance_of`: what it was started from and its teachers. Where the classes
    of one of these are not known, the watcher is warned.

    Raises ``DataError`` that names the network that was trained on a class, and the class.
    """
    provenance = provenance_of(run)
    seen = provenance.that_saw(unseen.label_names)
    if seen is not None:
        raise DataError(
            f"{unseen.source}: {provenance.sentence(seen)}, so its features have seen such images; take classes that "
            "it was not trained on, or remove these"
        )
    doubt = provenance.doubt()
    if doubt is not None:
        progress.warning(doubt)
    if unseen.part.paths is not None:
        warn_of_trained(run, unseen.part.paths, unseen.source, progress)


def content_digest(part: Part) -> str:
    """Return the SHA-256 of what the images of a part show, in their order.

    Where each image is a file, that of the files' paths (from the folder on that holds all) and bytes, whatever size
    they are read in; else of the images as they are held, see `images_digest`.

    Raises ``DataError`` for a file that cannot be read any more.
    """
    images = part.images
    digests = None if part.keys is None else keys_in(part.keys)
    if part.paths is not None:
        images = StreamImages(FilePictures(part.paths, digests), image_size=images.image_size, channels=3)
    return images_digest(images).sha256


__all__ = [
    "UnseenClasses",
    "check_unseen",
    "content_digest",
    "has_unseen_classes",
    "unseen_in_folder",
    "unseen_of_split",
]
