"""Folders of small pictures that all differ, and what users do to them after a run was trained."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy
from PIL import Image

from kdcam.runs.picture_record import PictureRecord

CLASSES = ("ant", "bee", "cat")


def fill(root: Path, *, classes: Sequence[str] = CLASSES, count: int = 12, seed: int = 0) -> Path:
    """Write pictures of noise into class folders, name000.png on, and return the root."""
    generator = numpy.random.default_rng(seed)
    for label, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 60, (20, 20, 3)).astype(numpy.uint8)
            pixels[..., label % 3] += numpy.uint8(120)
            Image.fromarray(pixels).save(folder / f"{name}{number:03}.png")
    return root


def paths_of(kept: PictureRecord, part: str) -> list[str]:
    """Return the paths of a part's pictures when the run was made."""
    return [kept.table.paths[position] for position in kept.parts[part].tolist()]


def swap(one: Path, other: Path) -> None:
    """Let two files exchange their names."""
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def edit(path: Path) -> None:
    """Change one pixel of a picture."""
    image = Image.open(path).convert("RGB")
    image.putpixel((10, 10), (1, 2, 3))
    image.save(path)


def copy_run(run: Path, place: Path) -> Path:
    """Copy a run folder."""
    return Path(shutil.copytree(run, place))
