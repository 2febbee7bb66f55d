"""Maps whose regions are known by eye, and runs of seconds."""

from pathlib import Path

import pytest
import torch
from small_runs import SCENES, small_recipe
from torch import Tensor

import kdcam

SIDE = 16


@pytest.fixture
def shapes() -> dict[str, Tensor]:
    """Maps (16, 16) with slopes, so that they have regions at many levels."""
    row, column = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")

    def away(y: float, x: float) -> Tensor:
        return ((row - y) ** 2 + (column - x) ** 2).sqrt()

    return {
        "disc": (6 - away(6, 9)).clamp(min=0),
        "ring": (3 - (away(8, 7) - 5).abs()).clamp(min=0),
        "two blobs": (4 - away(3, 3)).clamp(min=0) + (3 - away(11, 12)).clamp(min=0),
        "corners touch": ((row < 8) & (column < 8) | (row >= 8) & (column >= 8)).float(),
        "constant": torch.full((SIDE, SIDE), 2.5),
        "nan": torch.full((SIDE, SIDE), torch.nan),
        "noise": torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0)),
    }


@pytest.fixture(scope="session")
def scenes_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on digit scenes, with one label an image and with several; tests write localization.json into them."""
    folder = tmp_path_factory.mktemp("localized")
    several = {"task": "multi-label", "data": {**SCENES, "multi_label": True}}
    recipes = {
        "one": small_recipe(epochs=1),
        "other": small_recipe(epochs=1, seed=1),
        "labels": small_recipe(epochs=1, loss=[{"name": "binary_cross_entropy"}], **several),
    }
    return {
        name: kdcam.train(recipe, output=folder / name, device="cpu").path for name, recipe in recipes.items()
    }
