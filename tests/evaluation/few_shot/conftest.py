"""Runs trained for seconds on six of ten digits; tests only read them, but for few-shot.json."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from PIL import Image
from small_runs import SCENES, small_recipe

import kdcam

SPLIT_DATA = {
    **SCENES,
    "train_size": 150,
    "test_size": 40,
    "class_split": {"novel": 3, "validation": 2, "seed": 1},
}


@pytest.fixture(scope="session")
def split_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of one class split, of two seeds."""
    folder = tmp_path_factory.mktemp("runs")
    loss = [{"name": "cross_entropy"}]
    one, other = (
        kdcam.train(small_recipe(data=SPLIT_DATA, loss=loss, seed=seed), output=folder / f"base-{seed}").path
        for seed in (0, 1)
    )
    return one, other


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on all classes."""
    return kdcam.train(small_recipe(epochs=1), output=tmp_path_factory.mktemp("runs") / "whole").path


@pytest.fixture
def class_folders(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of class folders of gray pictures, each class of another brightness."""

    def make(*names: str, count: int = 8) -> Path:
        generator = numpy.random.default_rng(0)
        for number, name in enumerate(names):
            folder = tmp_path / "pictures" / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 60, (20, 20), dtype=numpy.uint8) + 60 * number
                Image.fromarray(pixels.astype(numpy.uint8)).save(folder / f"{index}.png")
        return tmp_path / "pictures"

    return make


@pytest.fixture
def one_shot_folder(tmp_path: Path) -> Path:
    """Twenty one-shot runs of twenty characters, each a bar at its own place; test drawings in another order."""
    generator = numpy.random.default_rng(0)
    for run in (f"run{number:02}" for number in range(1, 21)):
        lines = []
        for part in ("training", "test"):
            (tmp_path / "all_runs" / run / part).mkdir(parents=True)
        order = generator.permutation(20)
        for position, character in enumerate(order):
            _bar(character).save(tmp_path / f"all_runs/{run}/test/item{position + 1:02}.png")
            _bar(position).save(tmp_path / f"all_runs/{run}/training/class{position + 1:02}.png")
            lines.append(f"{run}/test/item{position + 1:02}.png {run}/training/class{character + 1:02}.png")
        (tmp_path / "all_runs" / run / "class_labels.txt").write_text("\n".join(lines))
    return tmp_path / "all_runs"


def _bar(character: int) -> Image.Image:
    ink = numpy.full((105, 105), 255, dtype=numpy.uint8)
    ink[:, 5 * character : 5 * character + 5] = 0
    return Image.fromarray(ink)
