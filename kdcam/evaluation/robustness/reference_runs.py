"""Other runs beside the evaluated ones: the source that images are crafted on, the base that errors are relative to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from torch import nn

from kdcam.attacks.attack_settings import AnyAttack
from kdcam.errors import CheckpointError, DataError, RecipeError
from kdcam.files.json_files import first_difference, value_text
from kdcam.files.paths import exists
from kdcam.models.classifier import Classifier
from kdcam.runs.open_run import LoadedRun, Weights, load, recipe_of
from kdcam.runs.run_files import RECIPE_FILE
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import listed

_NAMED = 5  # classes in an error
_WAYS_OUT = {"source": "craft on a run", "base": "name a base"}
_OF_TRAINING = {"augment", "cutmix", "mixup", "noise", "workers"}  # data's keys that choose no image

ReferenceRole = Literal["source", "base"]


class ReferenceNetwork(NamedTuple):
    """Another run's classifier: adversarial images are crafted on it, or errors are relative to it."""

    name: str
    classifier: nn.Module


class ReferenceNetworks(NamedTuple):
    """The other runs of an evaluation."""

    source: ReferenceNetwork | None
    base: ReferenceNetwork | None


def open_reference(path: Path, *, role: ReferenceRole, weights: Weights, device: str) -> ReferenceNetwork:
    """Return the network of another run; ``CheckpointError`` where the folder holds none."""
    try:
        return ReferenceNetwork(str(path), load(path, weights=weights, device=device))
    except CheckpointError as error:
        raise CheckpointError(f"{role}: {error}") from error


def check_reference(reference: ReferenceNetwork, loaded: LoadedRun, *, role: ReferenceRole) -> None:
    """Raise ``DataError`` unless another run takes a run's images and knows them by the same classes."""
    crafting, tested = reference.classifier, loaded.classifier
    assert isinstance(crafting, Classifier)  # `open_reference` made it
    way_out = _WAYS_OUT[role]
    if crafting.class_names != tested.class_names:
        raise DataError(
            f"{role} {reference.name}: its classes are {_some(crafting.class_names)}, those of {loaded.path} are "
            f"{_some(tested.class_names)}; {way_out} of the same classes in the same order"
        )
    for what, one, other in (
        ("channels", crafting.in_channels, tested.in_channels),
        ("pixels a side", crafting.image_size, tested.image_size),
        ("task", crafting.task, tested.task),
    ):
        if one != other:
            raise DataError(
                f"{role} {reference.name}: {what}: {one}, where {loaded.path} has {other}; {way_out} that takes the "
                "same images"
            )


def warn_of_other_data(
    reference: ReferenceNetwork, loaded: LoadedRun, *, role: ReferenceRole, progress: Progress
) -> None:
    """Warn where another run was trained on another [data] table: the run's test images may be among what it saw."""
    if not exists(Path(reference.name) / RECIPE_FILE):
        return  # weights alone, of which no more is known
    there, here = (
        recipe.data.model_dump(mode="json", exclude=_OF_TRAINING)
        for recipe in (recipe_of(Path(reference.name)), recipe_of(loaded.path))
    )
    difference = first_difference(there, here)
    if difference is not None:
        progress.warning(
            f"{role} {reference.name}: was trained on other data than {loaded.path} (data.{difference.place}: "
            f"{value_text(difference.there)} there, {value_text(difference.here)} here), so it may have seen "
            "the test images"
        )


def check_transferable(attacks: Sequence[AnyAttack]) -> None:
    """Raise ``RecipeError`` where none of the attacks is worth crafting on a source."""
    if not any(attack.transfers for attack in attacks):
        raise RecipeError(
            f"source: does nothing for {listed(attack.label for attack in attacks)}: images that only just fool the "
            "source, or that stages attack as far as they stand on the run itself; add pgd or another attack"
        )


def _some(names: Sequence[str]) -> str:
    return f"{listed(names[:_NAMED])}{' ...' if len(names) > _NAMED else ''} ({len(names)})"


__all__ = [
    "ReferenceNetwork",
    "ReferenceNetworks",
    "ReferenceRole",
    "check_reference",
    "check_transferable",
    "open_reference",
    "warn_of_other_data",
]
