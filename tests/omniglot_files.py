"""Made-up drawings in the folders and zip files that Omniglot comes in."""

import zipfile

import numpy
from PIL import Image


def draw(path, row):
    """Write a 1-bit picture of black ink, one line of it, on white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    paper = numpy.full((105, 105), 255, numpy.uint8)
    paper[row : row + 10] = 0
    Image.fromarray(paper).convert("1").save(path)


def draw_alphabet(folder, characters, *, drawings=4):
    for character in range(1, characters + 1):
        for number in range(1, drawings + 1):
            draw(folder / f"character{character:02}" / f"{number:02}.png", 10 * character)


def zip_up(folder, file, packing=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", packing) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    return file
