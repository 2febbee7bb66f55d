"""Recipes of a second, as files."""

from pathlib import Path

import pytest

RECIPE = """
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
NO_DATA = """
epochs = 1
[data]
name = "image-folder"
root = "{root}"
image_size = 16
[model]
name = "kdcam:resnet8_s2"
"""


@pytest.fixture
def scenes(tmp_path: Path) -> str:
    (tmp_path / "scenes.toml").write_text(RECIPE.format(epochs=1))
    return str(tmp_path / "scenes.toml")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    (tmp_path / "photos.toml").write_text(NO_DATA.format(root=tmp_path / "photos"))
    return str(tmp_path / "photos.toml")
