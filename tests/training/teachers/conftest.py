"""Two small teachers, and a cache folder of each test's own."""

from pathlib import Path

import pytest
from small_runs import small_recipe

import kdcam


@pytest.fixture(scope="session")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("teachers")
    runs = [kdcam.train(small_recipe(seed=seed), output=folder / str(seed), device="cpu") for seed in (0, 1)]
    return [str(run.path) for run in runs]


@pytest.fixture(autouse=True)
def _own_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
