"""Where the images of classes come from that a run has never seen."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from kdcam.data.config import DataConfig, ImageFolderConfig
from kdcam.data.datasets import load_source
from kdcam.data.novel import joined, novel_classes
from kdcam.data.parts import Part
from kdcam.errors import DataError, RecipeError
from kdcam.few_shot.settings import FewShotSettings
from kdcam.models.classifier import Classifier
from kdcam.progress import Progress
from kdcam.recipe import TrainRecipe
from kdcam.recipe_errors import explain
from kdcam.wording import listed

_NAMED = 3  # classes named in an error; the others are counted


class UnseenClasses(NamedTuple):
    """Images of classes that a run has never seen, as its network takes them."""

    source: str  # in words
    part: Part
    label_names: tuple[str, ...]
    config: DataConfig  # how they are decoded


def has_unseen_classes(recipe: TrainRecipe | None) -> bool:
    """Return whether a run's own data holds classes that it was not trained on."""
    return recipe is not None and recipe.data.class_split is not None


def split_off(recipe: TrainRecipe, settings: FewShotSettings, *, progress: Progress) -> UnseenClasses:
    """Return the novel or validation classes of a run's own data; ``DataError`` where there are none."""
    part, names = novel_classes(recipe.data, settings.classes, progress=progress)
    return UnseenClasses(f"{settings.classes} classes of {recipe.data.name}", part, names, recipe.data)


def in_folder(folder: Path, classifier: Classifier, *, progress: Progress) -> UnseenClasses:
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
        raise RecipeError("; ".join(explain(error, ImageFolderConfig, place=f"data {folder}"))) from None
    source = load_source(config, progress)
    parts = [part for part in (source.train, source.validation, source.test) if part is not None]
    return UnseenClasses(str(folder), joined(parts), source.label_names, config)


def check_unseen(unseen: UnseenClasses, run: Path, trained_on: Sequence[str]) -> None:
    """Raise ``DataError`` where a class is, by its name, one that the run was trained on."""
    seen = set(trained_on)
    both = [name for name in unseen.label_names if name in seen]
    if both:
        more = f" and {len(both) - _NAMED} more" if len(both) > _NAMED else ""
        raise DataError(
            f"{unseen.source}: {run} was trained on {listed(map(repr, both[:_NAMED]))}{more}, so its features have "
            "seen such images; take classes that it was not trained on, or remove these"
        )


__all__ = ["UnseenClasses", "check_unseen", "has_unseen_classes", "in_folder", "split_off"]
