"""Pictures of maps: overlays, captions and grids, arrays in and arrays out, and a PNG writer."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically
from kdcam.settings.messages import reason_text

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

RgbImage = NDArray[np.float32]
"""(3, H, W) in [0, 1]."""

COLORMAP = "inferno"  # perceptually uniform: equal steps of the map look equally large; dark is low
_TEXT_SIZE = 11  # pixels
_LEAST_PIXELS = 160  # of a picture's side: enough for a caption


def overlay(
    image: Tensor | RgbImage, activation: Tensor | RgbImage, *, alpha: float = 0.5, colormap: str = COLORMAP
) -> RgbImage:
    """Return an image under a coloured map (by default dark is low, bright is high).

    Args:
        image: (C, H, W) in [0, 1]; one channel is shown grey, of more than three the first three are shown.
        activation: (h, w) in [0, 1], as `kdcam.cam.maps.minmax_normalize` gives; brought to the image's size.
        alpha: 0: the image alone; 1: the map alone.
        colormap: a name that matplotlib knows.

    Returns:
        (3, H, W) in [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; wanted 0 (the image alone) to 1 (the map alone)")
    base = to_picture(image)
    map_ = _array(activation)
    if map_.ndim != 2:
        raise ValueError(f"a map has shape (H, W), not {map_.shape}")
    coloured = _colour(_enlarge(map_, base.shape[1:]), colormap)
    return np.asarray((1 - alpha) * base + alpha * coloured, dtype=np.float32)


def to_picture(image: Tensor | RgbImage) -> RgbImage:
    """Return an image (C, H, W) as (3, H, W): one channel repeated, of more than three the first three."""
    array = _array(image)
    if array.ndim != 3 or array.shape[0] == 0:
        raise ValueError(f"an image has shape (C, H, W), not {array.shape}")
    channels = array[:3] if array.shape[0] >= 3 else np.repeat(array[:1], 3, axis=0)
    return np.clip(channels, 0.0, 1.0)


def grid(rows: Sequence[Sequence[RgbImage]], *, gap: int = 2) -> RgbImage:
    """Return pictures laid out in rows on white, ``gap`` pixels apart.

    Rows may have unlike lengths and pictures unlike sizes: each takes the upper left corner of its cell,
    which is as large as the largest of its row and column.
    """
    if not any(len(row) for row in rows):
        raise ValueError("a grid needs at least one picture")
    heights = [max((picture.shape[1] for picture in row), default=0) for row in rows]
    columns = max(len(row) for row in rows)
    widths = [max(row[i].shape[2] for row in rows if i < len(row)) for i in range(columns)]
    canvas = np.ones((3, sum(heights) + gap * (len(rows) - 1), sum(widths) + gap * (columns - 1)), np.float32)
    for row_number, row in enumerate(rows):
        top = sum(heights[:row_number]) + gap * row_number
        for column, picture in enumerate(row):
            left = sum(widths[:column]) + gap * column
            _, height, width = picture.shape
            canvas[:, top : top + height, left : left + width] = picture
    return canvas


def magnified(picture: RgbImage, *, least: int = _LEAST_PIXELS) -> RgbImage:
    """Return a picture whose pixels are repeated, as often as it takes for ``least`` pixels of height and width."""
    times = -(-least // min(picture.shape[1:]))
    return picture.repeat(times, axis=1).repeat(times, axis=2)


def captioned(picture: RgbImage, lines: Sequence[str]) -> RgbImage:
    """Return a picture with lines of black text on white above it, each cut to the picture's width."""
    from PIL import Image, ImageDraw  # slow to import, as is matplotlib: only those who draw wait

    height = (_TEXT_SIZE + 4) * len(lines)
    band = Image.new("L", (picture.shape[2], height), 255)
    draw = ImageDraw.Draw(band)
    font = _font()
    for number, line in enumerate(lines):
        draw.text((1, (_TEXT_SIZE + 4) * number), _cut(line, font, band.width - 2), fill=0, font=font)
    text = np.asarray(band, dtype=np.float32)[None].repeat(3, axis=0) / 255
    return np.concatenate([text, picture], axis=1)


def save_png(picture: RgbImage, path: str | Path) -> None:
    """Write a picture (3, H, W) as a PNG file; its folder is made where it is missing.

    Raises ``CheckpointError`` when it cannot be written.
    """
    from PIL import Image  # see captioned

    pixels = np.rint(to_picture(picture).transpose(1, 2, 0) * 255).astype(np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), file.getvalue())
    except OSError as error:
        raise CheckpointError(
            f"{path}: the picture cannot be written: {reason_text(error)}; name another place"
        ) from error


def _font() -> "FreeTypeFont":
    from matplotlib import get_data_path  # see captioned
    from PIL import ImageFont  # see captioned

    # By its path: matplotlib's search for fonts goes through all of the machine's first.
    return ImageFont.truetype(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", _TEXT_SIZE)


def _cut(text: str, font: "FreeTypeFont", width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def _array(values: Tensor | RgbImage) -> RgbImage:
    if isinstance(values, Tensor):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values, dtype=np.float32)


def _enlarge(map_: RgbImage, size: tuple[int, ...]) -> RgbImage:
    enlarged = interpolate(
        torch.from_numpy(map_.copy())[None, None], size, mode="bilinear", align_corners=False
    )
    array: RgbImage = enlarged[0, 0].numpy()
    return array


def _colour(map_: RgbImage, colormap: str) -> RgbImage:
    from matplotlib import colormaps  # see captioned

    rgba = colormaps[colormap](np.clip(map_, 0.0, 1.0))
    return np.asarray(rgba[..., :3].transpose(2, 0, 1), dtype=np.float32)


__all__ = ["COLORMAP", "RgbImage", "captioned", "grid", "magnified", "overlay", "save_png", "to_picture"]
