"""Recipes of a second, as files."""

from pathlib import Path

import pytest
from forked_workers import forked_workers  # noqa: F401 a fixture
from small_runs import scenes_file

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
    return str(scenes_file(tmp_path))


@pytest.fixture
def photos(tmp_path: Path) -> str:
    (tmp_path / "photos.toml").write_text(NO_DATA.format(root=tmp_path / "photos"))
    return str(tmp_path / "photos.toml")
