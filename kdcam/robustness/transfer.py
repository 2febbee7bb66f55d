"""Another run on which adversarial images are crafted: how well they work on the runs that are evaluated."""

from collections.abc import Sequence
from pathlib import Path

from kdcam.api import LoadedRun, Weights, load
from kdcam.errors import DataError, RecipeError
from kdcam.models.classifier import Classifier
from kdcam.robustness.config import AnyAttack
from kdcam.robustness.pieces import Source
from kdcam.wording import listed

_NAMED = 5  # classes in an error


def open_source(path: Path, *, weights: Weights, device: str) -> Source:
    """Return a run to craft on; ``CheckpointError`` where the folder holds none."""
    return Source(str(path), load(path, weights=weights, device=device))


def check_source(source: Source, loaded: LoadedRun) -> None:
    """Raise ``DataError`` unless a source takes a run's images and knows them by the same classes."""
    crafting, tested = source.classifier, loaded.classifier
    assert isinstance(crafting, Classifier)  # `open_source` made it
    if crafting.class_names != tested.class_names:
        raise DataError(
            f"source {source.name}: its classes are {_some(crafting.class_names)}, those of {loaded.path} are "
            f"{_some(tested.class_names)}; craft on a run of the same classes in the same order"
        )
    for what, one, other in (
        ("channels", crafting.in_channels, tested.in_channels),
        ("pixels a side", crafting.image_size, tested.image_size),
        ("task", crafting.task, tested.task),
    ):
        if one != other:
            raise DataError(
                f"source {source.name}: {what}: {one}, where {loaded.path} has {other}; craft on a run that takes "
                "the same images"
            )


def check_transferable(attacks: Sequence[AnyAttack]) -> None:
    """Raise ``RecipeError`` where none of the attacks can be crafted on a source: all of them run in stages."""
    if all(attack.name == "standard" for attack in attacks):
        raise RecipeError(
            f"source: does nothing for {listed(attack.label for attack in attacks)}, whose stages attack what is left "
            "standing on the run itself; add pgd or another attack"
        )


def _some(names: Sequence[str]) -> str:
    return f"{listed(names[:_NAMED])}{' ...' if len(names) > _NAMED else ''} ({len(names)})"


__all__ = ["check_source", "check_transferable", "open_source"]
