from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_runs import Watcher

import kdcam.api
import kdcam.quickstart as quickstart
from kdcam.recipe.train_recipe import TrainRecipe, load_recipe

SMALLER = ("epochs=1", "data.train_size=60", "data.test_size=12", "data.image_size=32", "data.validation=0.2")


def load_smaller(name: str, overrides: Sequence[str] = ()) -> TrainRecipe:
    return load_recipe(name, [*overrides, *SMALLER])


def test_quickstart_ends_with_scores_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quickstart, "load_recipe", load_smaller)
    monkeypatch.setattr(kdcam.api, "load_recipe", load_smaller)
    watcher = Watcher()
    found = quickstart.run_quickstart(tmp_path, device="cpu", progress=watcher)
    assert [row.name for row in found.rows] == ["teacher", "student"]
    for row in found.rows:
        assert [attack.attack for attack in row.robustness.attacks.rows] == ["fgsm", "pgd-10"]
        assert 0 <= row.pointing.label_cam <= 1
    with Image.open(found.picture) as picture:
        columns, rows = 5, quickstart.PICTURED_IMAGES
        assert picture.size == (columns * 96 + (columns - 1) * 6, rows * 96 + (rows - 1) * 6)
    assert len(found.seconds) == 5
    again: Any = quickstart.run_quickstart(tmp_path, device="cpu")
    assert all(row.run.was_finished for row in again.rows)
