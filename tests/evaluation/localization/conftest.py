"""Maps whose regions are known by eye, and runs of seconds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import small_recipe, three_runs
from torch import Tensor

import kdcam

SIDE = 16
HEAD = "path,x0,y0,x1,y1\n"


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
    return three_runs(tmp_path_factory.mktemp("localized"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 24 x 32 pixels with a bright square, in train/ and test/, and boxes.csv of the test squares."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    rows = []
    for part in ("train", "test"):
        for name in ("dark", "light"):
            (root / part / name).mkdir(parents=True)
            for number in range(8):
                pixels = generator.integers(0, 60, (32, 24, 3), dtype=np.uint8)
                x, y = generator.integers(2, 12, 2)
                pixels[y + 4 : y + 14, x : x + 10] = 120 if name == "dark" else 250
                path = f"{part}/{name}/{number}.png"
                Image.fromarray(pixels).save(root / path)
                rows.append(f"{path},{x},{y + 4},{x + 10},{y + 14}\n")
    (root / "boxes.csv").write_text(HEAD + "".join(row for row in rows if row.startswith("test")))
    return root


@pytest.fixture(scope="session")
def photo_run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {"name": "image-folder", "root": str(photos), "image_size": 24, "validation": 0.25}
    recipe = small_recipe(epochs=1, batch_size=4, data=data)
    return kdcam.train(recipe, output=tmp_path_factory.mktemp("run") / "photos", device="cpu").path
