"""One picture file read right: EXIF rotation, alpha, palette, 16 bit, CMYK, gray; a broken one is named.

Pillow is imported by the functions that need it: runs on other data do not wait for it.
"""

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import numpy
import torch
from torch import Tensor

from kdcam.data.common_config import MOST_PIXELS
from kdcam.errors import DataError
from kdcam.files.paths import shown
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import reason_text

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Kinds of picture files that are read, by Pillow's names; it knows many more, whose readers hardly anybody tries."""

_EXIF_ORIENTATION = 0x0112
_AT_ONCE = 100_000_000  # pixels that the threads of a process decode at the same time: kdcam's choice
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_OTHER_BRANDS = (b"mif1", b"msf1")  # of HEIC and AVIF alike; the brands behind tell which

_Result = TypeVar("_Result")


class _PixelBudget:
    """Lets threads in as long as their pixels have room together; one alone always has."""

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + pixels <= self._size)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()


_PIXEL_BUDGET = _PixelBudget(_AT_ONCE)  # of the whole process, as its memory is


@contextmanager
def picture_file(
    source: Path | bytes, *, place: str | None = None, max_pixels: int = MOST_PIXELS
) -> Iterator["ImageFile"]:
    """Open a picture of one of `FORMATS`; its pixels are decoded where they are first asked for.

    Args:
        source: The file, or its content.
        place: What the messages call it; the path unless given.
        max_pixels: What its header may say; for larger ones nothing is decoded.

    Raises:
        DataError: in one line: it is empty, no picture of these formats, too large or damaged. What its reader raises
            in the block where it is used becomes one, too.
    """
    where = place or (shown(source) if isinstance(source, Path) else "a picture")
    try:
        file: IO[bytes] = source.open("rb") if isinstance(source, Path) else BytesIO(source)
    except (OSError, ValueError) as error:
        raise DataError(f"{where}: cannot be opened ({reason_text(error)})") from None
    try:
        with file, _identified(file, where) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise DataError(
                    f"{where}: {width} x {height} pixels, {width * height / 1e6:.0f} million, are more than the "
                    f"{max_pixels / 1e6:.0f} million that are decoded; save it smaller, or raise data.max_pixels where "
                    "a recipe reads it"
                )
            yield image
    except DataError:
        raise
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them to
        raise DataError(f"{where}: truncated or damaged ({reason_text(error)})") from error


def _identified(file: IO[bytes], where: str) -> "ImageFile":
    """Return the picture that a file begins; Pillow's own way of opening warns of large ones and knows all formats."""
    from PIL import Image  # Pillow is slow to import

    start = file.read(64)
    if not start:
        raise DataError(f"{where}: the file is empty (0 bytes)")
    file.seek(0)
    if _is_heic(start):
        return _heic(file, where)
    _prepare_pillow()
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        fits = factory is not None and accept is not None and accept(start[:16])
        if isinstance(fits, str):
            raise DataError(
                f"{where}: a {name} file, which this Pillow was built without; install it anew from a wheel"
            )
        if fits and factory is not None:
            return factory(file, where)
    raise DataError(
        f"{where}: not an image (no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file starts like this)"
    )


@cache
def _prepare_pillow() -> None:
    """Let Pillow know all of its readers, which then write nothing to stderr about tags that say nothing of pixels."""
    from PIL import Image  # Pillow is slow to import

    Image.init()
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def _is_heic(start: bytes) -> bool:
    brand = start[8:12]
    if start[4:8] != b"ftyp" or brand not in (*_HEIC_BRANDS, *_OTHER_BRANDS):
        return False
    behind = start[16 : int.from_bytes(start[:4], "big")]
    return brand in _HEIC_BRANDS or (b"heic" in behind and b"avif" not in behind)


def _heic(file: IO[bytes], where: str) -> "ImageFile":
    from PIL import Image  # Pillow is slow to import

    if find_spec("pillow_heif") is None:
        raise DataError(
            f'{where}: a HEIC file, as phones write them; run `pip install "kdcam[heic]"`, or save it as JPEG'
        )
    import pillow_heif  # of an extra, which only HEIC files need

    pillow_heif.register_heif_opener()
    factory, _ = Image.OPEN["HEIF"]
    return factory(file, where)


# Why a list of formats and a bound on pixels: docs/decisions/025.
def open_picture(path: Path, *, at_least: int | None = None, max_pixels: int = MOST_PIXELS) -> "Image":
    """Return the decoded picture at ``path``, upright, as 8-bit gray or RGB.

    ``at_least`` lets a JPEG be decoded at a half, quarter or eighth of its size, neither side below this
    number of pixels: several times faster for photos, and a little other pixels. Alpha is laid over white; 16-bit gray
    is scaled to 8 bit (65535 is white); the first frame of several is taken. However many threads call it, it decodes
    at most a hundred million pixels at once, or one picture.

    Raises:
        DataError: see `picture_file`; or it has pixels without a known range.
    """
    with picture_file(path, max_pixels=max_pixels) as image:
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        with _PIXEL_BUDGET.of(image.width * image.height):
            image.load()
            return _upright(_eight_bit(image, shown(path)), exif_orientation(image))


def _upright(image: "Image", orientation: int) -> "Image":
    from PIL.Image import Transpose  # Pillow is slow to import

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
    except Exception:  # whatever a damaged block leads Pillow to: it says nothing, and the pixels are whole
        return 1
    return found if 1 <= found <= 8 else 1


def _eight_bit(image: "Image", where: str) -> "Image":
    from PIL import Image  # Pillow is slow to import

    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_scaled(image, where))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("L" if image.mode in ("LA", "La", "L", "1") else "RGB")
    return _in_mode(image, "L" if image.mode in ("L", "1") else "RGB")


def _in_mode(image: "Image", mode: str) -> "Image":
    return image if image.mode == mode else image.convert(mode)  # convert copies even what has the mode


def _scaled(image: "Image", where: str) -> numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.uint8]]:
    values = numpy.asarray(image).astype(numpy.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= top):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise DataError(
            f"{where}: {kind} pixels from {low:g} to {high:g}, of which nothing says what "
            f"is white; allowed: 0 to {top:g}, so convert the file to 8 or 16 bit"
        )
    return numpy.rint(values * (255 / top)).astype(numpy.uint8)


def fit_square(image: "Image", image_size: int, channels: int) -> "Image":
    """Return the middle square of the picture at ``image_size`` pixels a side, gray (1 channel) or RGB (3)."""
    from PIL import ImageOps  # Pillow is slow to import
    from PIL.Image import Resampling

    converted = _in_mode(image, "L" if channels == 1 else "RGB")
    return ImageOps.fit(converted, (image_size, image_size), method=Resampling.BICUBIC)


def as_tensor(image: "Image") -> Tensor:
    """Return a gray or RGB picture as (C, H, W) uint8."""
    array = numpy.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def read_image(path: Path, *, image_size: int, channels: int) -> Tensor:
    """Return the picture at ``path`` as (C, S, S) uint8, as evaluation sees it: at full size, upright, square, resized.

    Raises:
        DataError: the file cannot be read as an image; the message begins with its path.
    """
    return as_tensor(fit_square(open_picture(path), image_size, channels))


def bad_image_reason(path: Path, *, max_pixels: int = MOST_PIXELS) -> str | None:
    """Return why the file cannot be read as an image, path first; None when it can. The whole file is decoded."""
    try:
        open_picture(path, at_least=1, max_pixels=max_pixels)
    except DataError as error:
        return str(error)
    return None


def map_in_threads(
    function: Callable[[int], _Result], count: int, *, task: str, progress: Progress
) -> list[_Result]:
    """Return ``function`` of 0 ... ``count`` - 1, in order, worked out in a few threads (Pillow frees the lock)."""
    results = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, result in enumerate(pool.map(function, range(count)), start=1):
            results.append(result)
            if done % 100 == 0 or done == count:
                progress.advance(task, done, count)
    return results


__all__ = [
    "FORMATS",
    "as_tensor",
    "bad_image_reason",
    "exif_orientation",
    "fit_square",
    "map_in_threads",
    "open_picture",
    "picture_file",
    "read_image",
]
