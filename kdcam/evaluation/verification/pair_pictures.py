"""The pictures of pairs, checked and put into batches."""

import torch

from kdcam.data.batches.batch import Batches
from kdcam.data.batches.decoding import bad_image_reason
from kdcam.data.batches.resident import ResidentBatches, ResidentImages
from kdcam.data.batches.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.data.common_config import RESIDENT_LIMIT
from kdcam.data.pairs import Pairs
from kdcam.data.sources.picture_files import map_in_threads, read_resident
from kdcam.errors import DataError
from kdcam.runtime.progress import Progress

PairImages = ResidentImages | StreamImages

_READING_TASK = "reading pictures of pairs"
_WORKERS = 2  # processes that decode large pictures: kdcam's choice
_NAMED = 3  # pictures named in an error; the others are counted


def pair_images(pairs: Pairs, *, image_size: int, channels: int, progress: Progress) -> PairImages:
    """Return the distinct pictures of pairs, small ones read at once; all of them are decoded here.

    Raises ``DataError`` that names those that cannot be read.
    """
    paths = pairs.paths
    images = StreamImages(FilePictures(paths), image_size=image_size, channels=channels)
    held: PairImages = images
    if image_size > RESIDENT_LIMIT:
        reasons = map_in_threads(
            lambda i: bad_image_reason(paths[i]), len(paths), task=_READING_TASK, progress=progress
        )
    else:
        held, reasons = read_resident(images, task=_READING_TASK, progress=progress)
    bad = [reason for reason in reasons if reason is not None]
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise DataError(
            f"{len(bad)} of {len(reasons)} pictures of {pairs.file} cannot be read: {'; '.join(bad[:_NAMED])}{more}. "
            "Replace them, or remove their pairs"
        )
    return held


def pair_batches(images: PairImages, *, batch_size: int, device: torch.device) -> Batches:
    """Return the pictures in batches, in order."""
    targets = torch.zeros(len(images), dtype=torch.int64)  # of no use here
    if isinstance(images, ResidentImages):
        return ResidentBatches(
            images, targets, batch_size=batch_size, training=False, augment=(), seed=0, device=device
        )
    return StreamBatches(
        images,
        targets,
        batch_size=batch_size,
        training=False,
        augment=(),
        workers=_WORKERS,
        seed=0,
        device=device,
    )


__all__ = ["PairImages", "pair_batches", "pair_images"]
