"""Recipes of seconds and a watcher for tests of whole runs."""

from pathlib import Path
from typing import Any

import kdcam
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.runtime.progress import EpochRecord, Silent
from kdcam.training.starting_point import starting_point

SCENES = {"name": "digit-scenes", "image_size": 16, "train_size": 60, "test_size": 20, "validation": 0.25}
_RECIPE = """
epochs = {epochs}
batch_size = 16
[data]
name = "digit-scenes"
image_size = 16
train_size = 60
test_size = 20
validation = 0.25
[model]
name = "kdcam:resnet8_s2"
"""


def scenes_file(folder: Path, *, epochs: int = 1) -> Path:
    """Write a recipe on 45 tiny scenes into a folder and return its file, scenes.toml."""
    file = folder / "scenes.toml"
    file.write_text(_RECIPE.format(epochs=epochs))
    return file


def small_recipe(**changes: Any) -> TrainRecipe:
    """Return a recipe on 45 tiny scenes: three steps an epoch."""
    table: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 16,
        "data": {**SCENES, "augment": ["crop"]},
        "model": {"name": "kdcam:resnet8_s2"},
        "loss": [{"name": "cross_entropy"}, {"name": "cam"}],
        "optimizer": {"name": "sgd", "lr": 0.05},
    }
    return read_recipe(table | changes, source="small")


def three_runs(folder: Path) -> dict[str, Path]:
    """Train two runs of one label an image ("one", "other") and one of several ("labels"); return their folders."""
    several = {"task": "multi-label", "data": {**SCENES, "multi_label": True}}
    recipes = {
        "one": small_recipe(epochs=1),
        "other": small_recipe(epochs=1, seed=1),
        "labels": small_recipe(epochs=1, loss=[{"name": "binary_cross_entropy"}], **several),
    }
    return {
        name: kdcam.train(recipe, output=folder / name, device="cpu").path for name, recipe in recipes.items()
    }


def started_model(recipe: TrainRecipe) -> ModelConfig:
    """Return the network that a recipe trains, and what it starts from: with [init] what that and [model] make."""
    return recipe.model if recipe.init is None else starting_point(recipe.init, recipe.model).model


class Watcher(Silent):
    """Keeps what it is told; asks to stop after some steps if wanted."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.epochs: list[EpochRecord] = []
        self.done: list[tuple[str, int, int]] = []
        self.stop_after = stop_after
        self.asked = 0

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def epoch(self, record: EpochRecord) -> None:
        self.epochs.append(record)

    def advance(self, task: str, done: int, total: int) -> None:
        self.done.append((task, done, total))

    def should_stop(self) -> bool:
        self.asked += 1
        return self.stop_after is not None and self.asked >= self.stop_after


def kept_files(folder: Path) -> dict[str, bytes]:
    """Return what must be equal between two runs of one recipe: weights, state and result."""
    names = ("model.safetensors", "config.json", "resume/state.safetensors", "result.json")
    return {name: (folder / name).read_bytes() for name in names}
