from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcam.data.images import read_image
from kdcam.data.picture_frames import PictureFrame, picture_frame
from kdcam.errors import DataError


def saved(folder: Path, pixels: np.ndarray, orientation: int) -> Path:
    path = folder / f"{orientation}.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def bright_box(path: Path, image_size: int) -> tuple[float, float, float, float]:
    """Return where the bright pixels lie in what a network sees."""
    rows, columns = np.nonzero(read_image(path, image_size=image_size, channels=1)[0].numpy() > 127)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (50, 50)])
def test_a_box_follows_the_picture_whichever_way_it_is_turned(
    tmp_path: Path, orientation: int, size: tuple[int, int]
) -> None:
    width, height = size
    pixels = np.zeros((height, width), np.uint8)
    pixels[14:30, 16:28] = 255
    path = saved(tmp_path, pixels, orientation)
    frame = picture_frame(path)
    assert frame == (width, height, orientation)
    for image_size in (min(size), 3 * min(size)):  # as it is, and enlarged
        found = frame.in_square((16, 14, 28, 30), image_size)
        assert found == pytest.approx(bright_box(path, image_size), abs=1e-9)


def test_a_box_is_cut_at_the_middle_square() -> None:
    frame = PictureFrame(300, 100)
    assert frame.in_square((0, 20, 150, 60), 50) == (0, 10, 25, 30)
    assert frame.in_square((150, 0, 300, 100), 50) == (25, 0, 50, 50)
    assert frame.in_square((0, 20, 100, 60), 50) is None
    assert frame.in_square((200, 20, 300, 60), 50) is None


def test_an_upright_box_has_its_corners_in_order() -> None:
    for orientation in range(1, 9):
        x0, y0, x1, y1 = PictureFrame(30, 20, orientation).upright((1, 2, 4, 8))
        assert x0 < x1
        assert y0 < y1


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for name in ("a.png", "missing.png"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read as an image .*; restore or remove it"):
            picture_frame(tmp_path / name)
