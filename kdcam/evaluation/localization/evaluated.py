"""The digest of which images and boxes were asked about: equal where two results answer the same question."""

import hashlib

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.boxes import ObjectBoxes
from kdcam.data.dataset_parts import Part
from kdcam.errors import DataError

_BOX_STEPS = 1_000_000  # of an image's side: boxes that differ by rounding alone are the same


def evaluated_digest(part: Part, boxes: ObjectBoxes) -> str:
    """Return a digest (SHA-256) of images with the classes and boxes that are held against their maps.

    Where files lie, what they are called and in which order they come makes no difference, nor does the size that
    their pictures are brought to: boxes count as shares of the image's side. Of images in memory the pixels count.

    Args:
        part: the images.
        boxes: of these.

    Raises ``DataError`` where a file cannot be read.
    """
    shares = (boxes.boxes / boxes.image_size * _BOX_STEPS).round()
    lines, content = [], dict[int, str]()
    for image, number, rows in zip(
        boxes.images.tolist(), boxes.classes.tolist(), shares.tolist(), strict=True
    ):
        if image not in content:
            content[image] = hashlib.sha256(_content(part, image)).hexdigest()
        known = sorted(
            [int(value) for value in row] for row in rows if row[0] == row[0]
        )  # nan: there is none
        lines.append(f"{content[image]} {number} {known}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _content(part: Part, index: int) -> bytes:
    if part.paths is not None:
        path = part.paths[index]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be opened ({error.strerror or error})") from None
    images = part.images
    pixels = images.pixels[index] if isinstance(images, ResidentImages) else images.read(index)
    return pixels.cpu().contiguous().numpy().tobytes()


__all__ = ["evaluated_digest"]
