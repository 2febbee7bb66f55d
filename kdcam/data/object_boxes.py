"""Where a place of a picture file comes to lie in what a network sees of it: turned upright, cut square, resized."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kdcam.data.batches.decoding import exif_orientation, picture_file

if TYPE_CHECKING:
    from PIL.Image import Image

Edges = tuple[float, float, float, float]
"""x0, y0, x1, y1 of a box, the end exclusive."""

_TIFF_WIDTH, _TIFF_HEIGHT = 256, 257
_LYING = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class PictureFrame(NamedTuple):
    """The size of a picture as its file holds it, and how it is turned to stand upright."""

    width: int
    height: int
    orientation: int = 1  # EXIF's, 1 to 8

    def upright(self, edges: Edges) -> Edges:
        """Return a box of the stored picture as it lies in the upright one."""
        corners = [self._turned(edges[0], edges[1]), self._turned(edges[2], edges[3])]
        (left, right), (top, bottom) = (sorted(values) for values in zip(*corners, strict=True))
        return (left, top, right, bottom)

    def in_square(self, edges: Edges, image_size: int) -> Edges | None:
        """Return a box of the stored picture as it lies in the upright middle square at ``image_size`` pixels.

        It is cut at the square's border; None: nothing of it is left. As `kdcam.data.batches.decoding.fit_square` cuts.
        """
        width, height = self._as_it_stands(self.width, self.height)
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        x0, y0, x1, y1 = self.upright(edges)
        found = [
            min(max((value - start) * image_size / side, 0.0), float(image_size))
            for value, start in ((x0, left), (y0, top), (x1, left), (y1, top))
        ]
        if found[2] <= found[0] or found[3] <= found[1]:
            return None
        return (found[0], found[1], found[2], found[3])

    def pixel(self, image_size: int, *, across: float = 1.0, down: float = 1.0) -> tuple[float, float]:
        """Return width and height, in the pixels of `in_square`, of a place of the stored picture.

        Args:
            image_size: as that of `in_square`.
            across: width of the place, in pixels of the stored picture; by default it is one of them.
            down: its height.
        """
        scale = image_size / min(self.width, self.height)
        width, height = self._as_it_stands(across, down)
        return (width * scale, height * scale)

    def _as_it_stands(self, width: float, height: float) -> tuple[float, float]:
        return (height, width) if self.orientation in _LYING else (width, height)

    def _turned(self, x: float, y: float) -> tuple[float, float]:
        if self.orientation in (2, 3):
            x = self.width - x
        if self.orientation in (3, 4):
            y = self.height - y
        if self.orientation in (6, 7):
            y = self.height - y
        if self.orientation in (7, 8):
            x = self.width - x
        return (y, x) if self.orientation in _LYING else (x, y)


def picture_frame(path: Path) -> PictureFrame:
    """Return the frame of a picture file; its pixels are not decoded.

    Raises:
        DataError: the file is missing or cannot be read as an image; the message begins with its path.
    """
    with picture_file(path) as image:
        width, height = _stored_size(image)
        return PictureFrame(width, height, exif_orientation(image))


def _stored_size(image: "Image") -> tuple[int, int]:
    # Of a TIFF file Pillow gives the size that it has once turned; its tags tell how it is stored.
    tags = getattr(image, "tag_v2", None)
    return image.size if tags is None else (int(tags[_TIFF_WIDTH]), int(tags[_TIFF_HEIGHT]))


__all__ = ["Edges", "PictureFrame", "picture_frame"]
