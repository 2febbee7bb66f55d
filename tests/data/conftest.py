"""What the tests of several data sources share."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from PIL import Image


@pytest.fixture
def paint() -> Callable[..., list[Path]]:
    """Write small pictures into a folder, the red of each its number, and return their paths."""

    def write(folder: Path, count: int, *, first: int = 0) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{number:03}.png" for number in range(first, first + count)]
        for number, path in enumerate(paths, start=first):
            Image.fromarray(numpy.full((18, 20, 3), (number, 0, 50), numpy.uint8)).save(path)
        return paths

    return write
