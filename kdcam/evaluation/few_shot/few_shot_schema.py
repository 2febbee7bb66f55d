"""What a few-shot evaluation does; no torch is imported here."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from kdcam.errors import RecipeError
from kdcam.settings.frozen_settings import Settings
from kdcam.settings.messages import listed
from kdcam.settings.setting_names import key_and_flag, settings_error

FewShotHead = Literal["prototype", "cosine-prototype", "logistic", "baseline", "baseline++"]

_OF_EPISODES = ("ways", "shots", "queries", "episodes", "classes", "fine_tune_last_stage")


class FewShotSettings(Settings):
    """The episodes and what is made of an episode's support images.

    Ways, queries and episodes by default as in wyharveychen/CloserLookFewShot (test.py) and the paper with it, Chen et
    al. 2019, "A Closer Look at Few-shot Classification" (arXiv 1904.04232).
    """

    ways: int = Field(5, ge=2, description="classes in an episode")
    shots: tuple[int, ...] = Field((1, 5), description="support images of a class, one or several")
    queries: int = Field(15, ge=1, description="images of a class to be told apart")
    episodes: int = Field(600, ge=1, description="how many, for each number of shots")
    seed: int = Field(0, ge=0, description="decides all episodes")
    classes: Literal["novel", "validation"] = Field(
        "novel", description="which of the classes that the run's class split held out"
    )
    heads: tuple[FewShotHead, ...] = Field(
        ("prototype", "cosine-prototype", "logistic", "baseline", "baseline++"),
        description="what is made of the support images",
    )
    fine_tune_last_stage: bool = Field(
        False, description="also train the network's last stage in each episode: slow"
    )

    @field_validator("shots")
    @classmethod
    def _at_least_one(cls, shots: tuple[int, ...]) -> tuple[int, ...]:
        if shots and min(shots) < 1:
            raise ValueError(f"found {min(shots)}; allowed: numbers of images, 1 or more")
        return shots

    @field_validator("shots", "heads")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if not values:
            raise ValueError("found nothing; name one or more")
        repeated = sorted({str(value) for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} stands there more than once; name each once")
        return values


def few_shot_settings(keys: Mapping[str, Any]) -> FewShotSettings:
    """Return the settings that ``keys`` change; ``RecipeError`` names what is wrong with them."""
    try:
        return FewShotSettings.model_validate(dict(keys))
    except ValidationError as error:
        raise settings_error(error, FewShotSettings, command="few-shot") from None


def refuse_without_split(settings: FewShotSettings) -> None:
    """Raise ``RecipeError`` where settings choose among held-out classes, and a folder is asked about instead."""
    if "classes" in settings.model_fields_set:
        raise RecipeError(
            f"few-shot: {key_and_flag('classes')} does nothing with {key_and_flag('root')}, all classes of "
            "which are asked about; "
            "remove one of them"
        )


def refuse_without_episodes(settings: FewShotSettings, place: str) -> None:
    """Raise ``RecipeError`` where settings say how episodes are drawn, and none are.

    Args:
        settings: asked for.
        place: of a network that holds no classes back.
    """
    given = [key_and_flag(key) for key in _OF_EPISODES if key in settings.model_fields_set]
    if given:
        raise RecipeError(
            f"few-shot: {listed(given)} would do nothing: {place} holds out no classes, so that only Omniglot's "
            f"one-shot runs are asked; remove this, or name a folder of new classes ({key_and_flag('root')})"
        )


__all__ = [
    "FewShotHead",
    "FewShotSettings",
    "few_shot_settings",
    "refuse_without_episodes",
    "refuse_without_split",
]
