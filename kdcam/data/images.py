"""One picture file read right: EXIF rotation, alpha, palette, 16 bit, CMYK, gray; a broken one is named."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy
import torch
from torch import Tensor

from kdcam.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_EXIF_ORIENTATION = 0x0112
BROKEN_PICTURE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    MemoryError,
)
"""What Pillow raises on damaged files of the many formats it reads."""


def open_picture(path: Path, *, at_least: int | None = None) -> "Image":
    """Return the decoded picture at ``path``, upright, as 8-bit gray or RGB.

    ``at_least`` lets a JPEG be decoded at a half, quarter or eighth of its size, neither side below this
    number of pixels: several times faster for photos. Alpha is laid over white; 16-bit gray is scaled to 8
    bit (65535 is white); the first frame of several is taken.

    Raises:
        DataError: the file is empty, no image, truncated or damaged, or has pixels without a known range.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty (0 bytes)")
        with Image.open(path) as image:
            if at_least is not None:
                image.draft(None, (at_least, at_least))
            image.load()
            return _upright(_eight_bit(image, path), exif_orientation(image))
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image (Pillow knows no format that starts like this file)") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}") from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror})") from None
    except BROKEN_PICTURE as error:
        raise DataError(f"{path}: truncated or damaged ({error or type(error).__name__})") from None


def _upright(image: "Image", orientation: int) -> "Image":
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    turn = turns.get(orientation)
    return image if turn is None else image.transpose(turn)


def exif_orientation(image: "Image") -> int:
    """Return EXIF's orientation of a picture, 1 to 8; 1 (upright) where its block is missing or damaged."""
    try:
        found = int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except BROKEN_PICTURE:
        return 1  # a damaged EXIF block says nothing; the pixels are whole
    return found if 1 <= found <= 8 else 1


def _eight_bit(image: "Image", path: Path) -> "Image":
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scaled(image, path))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("L" if image.mode in ("LA", "La", "L", "1") else "RGB")
    return image.convert("L") if image.mode in ("L", "1") else image.convert("RGB")


def _scaled(image: "Image", path: Path) -> numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.uint8]]:
    values = numpy.asarray(image).astype(numpy.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise DataError(
            f"{path}: {kind} pixels from {low:g} to {high:g}, of which nothing says what "
            f"is white; allowed: 0 to {top:g}, so convert the file to 8 or 16 bit"
        )
    return numpy.rint(values * (255 / top)).astype(numpy.uint8)


def fit_square(image: "Image", image_size: int, channels: int) -> "Image":
    """Return the middle square of the picture at ``image_size`` pixels a side, gray (1 channel) or RGB
    (3)."""
    from PIL import ImageOps
    from PIL.Image import Resampling

    converted = image.convert("L" if channels == 1 else "RGB")
    return ImageOps.fit(converted, (image_size, image_size), method=Resampling.BICUBIC)


def as_tensor(image: "Image") -> Tensor:
    """Return a gray or RGB picture as (C, H, W) uint8."""
    array = numpy.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def read_image(path: Path, *, image_size: int, channels: int) -> Tensor:
    """Return the picture at ``path`` as (C, S, S) uint8, just as evaluation sees it: upright, middle square,
    resized.

    Raises:
        DataError: the file cannot be read as an image; the message begins with its path.
    """
    image = open_picture(path, at_least=2 * image_size)
    return as_tensor(fit_square(image, image_size, channels))


def bad_image_reason(path: Path) -> str | None:
    """Return why the file cannot be read as an image, path first; None when it can. Decodes the whole
    file."""
    try:
        open_picture(path, at_least=1)
    except DataError as error:
        return str(error)
    return None


__all__ = [
    "BROKEN_PICTURE",
    "as_tensor",
    "bad_image_reason",
    "exif_orientation",
    "fit_square",
    "open_picture",
    "read_image",
]
