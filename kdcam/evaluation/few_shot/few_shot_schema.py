"""What is asked of a few-shot evaluation, and what it found of one run; no torch is imported here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from kdcam.errors import RecipeError
from kdcam.runs.run_files import EPISODES_FILE
from kdcam.scores.intervals import Interval, episode_difference, mean_interval
from kdcam.settings.messages import listed
from kdcam.settings.validation import Settings, key_and_flag, settings_error

FewShotHead = Literal["prototype", "cosine-prototype", "logistic", "baseline", "baseline++"]
ONE_SHOT_RUNS = "Omniglot one-shot error"
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
            f"few-shot: {key_and_flag('classes')} does nothing with {key_and_flag('root')}, all classes of which are "
            "asked about; remove one of them"
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


@dataclass(frozen=True)
class EpisodeScores:
    """How many queries one head classified correctly in each episode."""

    head: str  # one of the heads, or "fine-tuned"
    ways: int
    shots: int
    queries: int  # of each class
    episodes: str  # the digest of which images they are made of
    right: tuple[int, ...]  # of ways * queries; one an episode

    @property
    def name(self) -> str:
        """The name in tables: ``5-way 1-shot prototype``."""
        return f"{self.ways}-way {self.shots}-shot {self.head}"

    @property
    def accuracies(self) -> list[float]:
        """The share of correct queries in each episode, in [0, 1]."""
        return [count / (self.ways * self.queries) for count in self.right]

    @property
    def accuracy(self) -> Interval:
        """The mean over episodes with its 95 % interval."""
        return mean_interval(self.accuracies)

    def difference(self, base: "EpisodeScores") -> Interval:
        """Return how much more accurate this is than ``base``, paired by episode.

        Raises ``ValueError`` where they are not of the same episodes.
        """
        if self.episodes != base.episodes:
            raise ValueError("the episodes differ, so that no pairs can be made of them")
        return episode_difference(self.accuracies, base.accuracies)


@dataclass(frozen=True)
class OneShotScores:
    """How many of the 20 test drawings one head classified correctly in each of Omniglot's official one-shot runs."""

    head: str
    drawings: int  # test drawings in a run
    right: tuple[int, ...]  # one a run
    images: str  # the SHA-256 of all drawings and of which belong together

    @property
    def name(self) -> str:
        """The name in tables."""
        return f"{ONE_SHOT_RUNS} {self.head}"

    @property
    def errors(self) -> list[float]:
        """The share of wrong drawings in each run, in [0, 1]."""
        return [1 - count / self.drawings for count in self.right]

    @property
    def error(self) -> Interval:
        """The mean over runs with its 95 % interval."""
        return mean_interval(self.errors)


@dataclass(frozen=True)
class NovelImages:
    """Which images the episodes were drawn from."""

    source: str  # in words
    classes: tuple[str, ...]
    images: int
    targets: str  # the SHA-256 of the labels in their order
    content: str  # that of the images in their order: of their files where each is one, else of their pixels


@dataclass(frozen=True)
class FewShotReport:
    """The few-shot scores of one run."""

    run: Path
    model: str  # the SHA-256 of its weights
    weights: str  # selected or last
    settings: FewShotSettings
    novel: NovelImages | None  # None: no episodes were drawn, only the official runs
    scores: tuple[EpisodeScores, ...] = ()
    one_shot: tuple[OneShotScores, ...] = ()

    def headline(self) -> dict[str, dict[str, float | None]]:
        """Return the means with how far their 95 % intervals reach, by name; shares in [0, 1]."""
        found = {scores.name: scores.accuracy for scores in self.scores}
        found |= {runs.name: runs.error for runs in self.one_shot}
        return {name: {"mean": one.mean, "interval": one.interval} for name, one in found.items()}

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes."""
        return {
            "headline": self.headline(),
            "settings": self.settings.model_dump(mode="json"),
            "model": self.model,
            "weights": self.weights,
            "novel": None if self.novel is None else vars(self.novel),
            "scores": [vars(scores) for scores in self.scores],
            "one_shot": [vars(runs) for runs in self.one_shot],
            "episodes_file": EPISODES_FILE if self.scores else None,
            "interval": f"95 % over {self._drawn()}: 1.96 s / sqrt(n), s with n - 1",
        }

    def differences(self, base: "FewShotReport") -> dict[str, dict[str, float | None]]:
        """Return by name how much more accurate this run is than another, paired by episode, with the 95 % interval.

        Only what both were asked with the same episodes; of the official one-shot runs how much larger the error is,
        paired by run.
        """
        theirs = {scores.name: scores for scores in base.scores}
        found = {
            scores.name: scores.difference(theirs[scores.name])
            for scores in self.scores
            if scores.name in theirs and scores.episodes == theirs[scores.name].episodes
        }
        errors = {runs.name: runs for runs in base.one_shot}
        for runs in self.one_shot:
            if runs.name in errors and runs.images == errors[runs.name].images:
                found[runs.name] = episode_difference(runs.errors, errors[runs.name].errors)
        return {name: {"mean": one.mean, "interval": one.interval} for name, one in found.items()}

    def _drawn(self) -> str:
        runs = "Omniglot's one-shot runs"
        if not self.one_shot:
            return "the draw of the episodes"
        return f"the draw of the episodes (of the one-shot error: over {runs})" if self.scores else runs


def interval_text(one: Interval, *, signed: bool = False) -> str:
    """Return a mean share and how far its interval reaches, in per cent."""
    mean = f"{100 * one.mean:{'+' if signed else ''}.2f}"
    return f"{mean}%" if one.interval is None else f"{mean} ± {100 * one.interval:.2f}%"


__all__ = [
    "ONE_SHOT_RUNS",
    "EpisodeScores",
    "FewShotHead",
    "FewShotReport",
    "FewShotSettings",
    "NovelImages",
    "OneShotScores",
    "few_shot_settings",
    "interval_text",
    "refuse_without_episodes",
    "refuse_without_split",
]
