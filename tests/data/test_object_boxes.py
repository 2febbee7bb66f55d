from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdcam.data.batches.decoding import read_image
from kdcam.data.object_boxes import PictureFrame, picture_frame
from kdcam.errors import DataError

# Pillow 13 shears pixels of uncompressed TIFF files that are turned, so a compressed one is looked at.
FORMATS = {"png": {}, "jpg": {"quality": 100}, "tif": {"compression": "tiff_lzw"}, "webp": {"lossless": True}}


def saved(folder: Path, pixels: np.ndarray, orientation: int, ending: str) -> Path:
    path = folder / f"{orientation}.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif, **FORMATS[ending])
    return path


def bright_box(path: Path, image_size: int) -> tuple[float, float, float, float]:
    """Return where the bright pixels lie in what a network sees."""
    rows, columns = np.nonzero(read_image(path, image_size=image_size, channels=1)[0].numpy() > 127)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(60, 40), (40, 60), (50, 50)])
@pytest.mark.parametrize("ending", FORMATS)
def test_a_box_follows_the_picture_whichever_way_it_is_turned(
    tmp_path: Path, orientation: int, size: tuple[int, int], ending: str
) -> None:
    width, height = size
    pixels = np.zeros((height, width), np.uint8)
    pixels[14:30, 16:28] = 255
    path = saved(tmp_path, pixels, orientation, ending)
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


@pytest.mark.parametrize("kept", [7, 10, 13])
def test_a_damaged_exif_block_turns_nothing(tmp_path: Path, kept: int) -> None:
    """The block breaks off somewhere: boxes stay where the reader of pictures leaves the pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((40, 60), np.uint8)
    pixels[14:30, 16:28] = 255
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif.tobytes()[:kept])
    frame = picture_frame(path)
    assert (frame.width, frame.height) == (60, 40)
    assert frame.in_square((16, 14, 28, 30), 40) == pytest.approx(bright_box(path, 40))


def test_a_pixel_as_it_is_seen() -> None:
    assert PictureFrame(300, 100).pixel(50) == (0.5, 0.5)
    assert PictureFrame(300, 100, orientation=6).pixel(50, across=3, down=2) == (1.0, 1.5)


def test_what_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    for name, said in (("a.png", "not an image"), ("missing.png", "cannot be opened")):
        with pytest.raises(DataError, match=rf"{name}: {said} \("):
            picture_frame(tmp_path / name)
