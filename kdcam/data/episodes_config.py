"""The [episodes] table of a recipe; no torch is imported here."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from kdcam.settings.frozen_settings import Settings

if TYPE_CHECKING:
    from kdcam.recipe.train_recipe import TrainRecipe

EPISODIC_LOSSES = ("prototypical",)
"""Losses whose ``shots`` are those of the episodes."""


class EpisodesConfig(Settings):
    """Trains in episodes: each batch holds ``ways`` classes, and of each ``shots`` + ``queries`` images.

    The support images come first, class by class, then the queries, class by class. Each episode is drawn anew: an
    image may come several times in an epoch, or not at all. It takes the place of ``batch_size``.
    """

    ways: int = Field(20, ge=2, description="classes in a batch")
    shots: int = Field(5, ge=1, description="support images of each class, the first of it in the batch")
    queries: int = Field(5, ge=1, description="images of each class that come after its support")
    per_epoch: int = Field(100, ge=1, description="batches in an epoch")

    @property
    def images(self) -> int:
        """Images in an episode."""
        return self.ways * (self.shots + self.queries)


def with_episodes(table: Any) -> Any:
    """Return a recipe's table with what follows from its episodes, where it has them: the batch size, and the shots of
    the losses that read them (`EPISODIC_LOSSES`). What is written stays.
    """
    if not isinstance(table, Mapping) or table.get("episodes") is None:
        return table
    try:
        episodes = EpisodesConfig.model_validate(table["episodes"])
    except ValidationError:
        return table  # told with the recipe's other wrong keys
    filled = {"batch_size": episodes.images, **table}
    losses = table.get("loss")
    if isinstance(losses, list | tuple):
        filled["loss"] = [_with_shots(loss, episodes.shots) for loss in losses]
    return filled


def _with_shots(loss: Any, shots: int) -> Any:
    if isinstance(loss, Mapping):
        return {"shots": shots, **loss} if loss.get("name") in EPISODIC_LOSSES else loss
    if getattr(loss, "name", None) in EPISODIC_LOSSES and "shots" not in loss.model_fields_set:
        return loss.model_copy(update={"shots": shots})
    return loss


def episode_problems(recipe: "TrainRecipe") -> Iterator[str]:
    """Yield what does not fit between a recipe's episodes and its other tables, each with its way out."""
    episodes = recipe.episodes
    if episodes is None:
        return
    if recipe.task == "multi-label":
        yield (
            'episodes: found with task = "multi-label", but an episode is of images with one label each; remove the '
            "[episodes] table, or take data of single labels"
        )
    if recipe.batch_size != episodes.images:
        yield (
            f"batch_size: found {recipe.batch_size}, but a batch is an episode of {episodes.ways} ways x "
            f"({episodes.shots} shots + {episodes.queries} queries) = {episodes.images} images; leave batch_size out"
        )
    for index, loss in enumerate(recipe.loss):
        shots = getattr(loss, "shots", episodes.shots)
        if shots != episodes.shots:
            yield (
                f"loss[{index}] ({loss.name}): found shots = {shots}, but episodes.shots is {episodes.shots}; leave "
                "shots out of the loss"
            )


__all__ = ["EPISODIC_LOSSES", "EpisodesConfig", "episode_problems", "with_episodes"]
