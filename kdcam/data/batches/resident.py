"""Small images held whole in memory (on the GPU where there is one) as bytes, augmented by the batch."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdcam.data.batches.augmentation import CropFlips, apply_crop_flips, augment_batch, crop_flips_for
from kdcam.data.batches.batch import (
    AUGMENT_STREAM,
    CROP_FLIP_STREAM,
    Batch,
    ImageOrder,
    Views,
    draw_views,
)
from kdcam.data.batches.episodes import EpisodeOrder
from kdcam.runtime.seeding import seeded_generator


class ResidentImages:
    """Images held as bytes; ``pixels`` is (N, C, H, W) uint8, channels last in memory."""

    def __init__(self, pixels: Tensor, *, image_size: int) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim != 4:
            raise ValueError(
                f"pixels are {pixels.dtype} of shape {tuple(pixels.shape)}; wanted uint8 (N, C, H, W)"
            )
        self.pixels = pixels.contiguous(memory_format=torch.channels_last)
        self.image_size = image_size  # the side that batches have; other pixels are resized by the batch

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.pixels)

    def subset(self, indices: Tensor) -> Self:
        """Return the images at ``indices`` (M,), in that order."""
        rows = self.pixels.permute(0, 2, 3, 1)[indices]
        return type(self)(rows.permute(0, 3, 1, 2), image_size=self.image_size)


def to_float(images: Tensor, image_size: int) -> Tensor:
    """Return byte images (N, H, W, C) as (N, C, S, S) float32 in [0, 1], channels last in memory."""
    planes = images.permute(0, 3, 1, 2).to(torch.float32).div_(255)
    if planes.shape[-2:] == (image_size, image_size):
        return planes
    resized = interpolate(planes, (image_size, image_size), mode="bilinear", antialias=True)
    return resized.clamp_(0, 1).contiguous(memory_format=torch.channels_last)


class ViewCropFlips(NamedTuple):
    """The moves of each view of each image; they fit in memory as the images do."""

    offsets: Tensor | None  # (V, 2, N, 1) int16
    mirrored: Tensor | None  # (V, N, 1) bool

    def of(self, views: Tensor, indices: Tensor) -> CropFlips:
        """Return the moves of the images at ``indices`` (M,) in their ``views`` (M,)."""
        offsets, mirrored = self
        return CropFlips(
            None if offsets is None else offsets[views, :, indices].transpose(0, 1).long(),
            None if mirrored is None else mirrored[views, indices],
        )


def view_crop_flips(views: Views, names: Sequence[str], images: int, *, size: int) -> ViewCropFlips:
    """Return the moves that crop and flip, where ``names`` holds them, make of all views of ``images`` images.

    Each view is drawn for all images at once, so the moves of an image depend on ``images`` too.
    """
    generators = (seeded_generator(views.seed, view, CROP_FLIP_STREAM) for view in range(views.per_image))
    drawn = [crop_flips_for(names, images, size=size, generator=generator) for generator in generators]
    offsets = [moves.offsets.to(torch.int16) for moves in drawn if moves.offsets is not None]
    mirrored = [moves.mirrored for moves in drawn if moves.mirrored is not None]
    return ViewCropFlips(
        torch.stack(offsets) if offsets else None, torch.stack(mirrored) if mirrored else None
    )


class ResidentBatches:
    """The batches of a part whose images are held in memory; see ``Batches``.

    With ``views`` each training image is one of its views, drawn anew at each step; without ``training`` epoch v is
    view v of every image, in order. With ``episodes`` these say which images each batch holds.
    """

    def __init__(
        self,
        images: ResidentImages,
        targets: Tensor,
        *,
        batch_size: int,
        training: bool,
        augment: Sequence[str],
        seed: int,
        device: torch.device,
        views: Views | None = None,
        episodes: EpisodeOrder | None = None,
    ) -> None:
        self._rows = images.pixels.permute(0, 2, 3, 1).to(device)
        self._targets = targets.to(device)
        self._image_size = images.image_size
        self._order = episodes or ImageOrder(len(targets), batch_size, training=training, seed=seed)
        self._bounds = self._order.bounds
        self._training = training
        self._augment = tuple(augment) if training or views is not None else ()
        self._seed = seed
        self._views = views
        size = self._rows.shape[1]
        self._crop_flips = None if views is None else view_crop_flips(views, augment, len(targets), size=size)

    @property
    def num_images(self) -> int:
        """Images that one epoch yields."""
        return self._bounds[-1][1] if self._bounds else 0

    def __len__(self) -> int:
        """Batches in one epoch."""
        return len(self._bounds)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``start_batch`` on."""
        order = self._order.of_epoch(epoch)
        there = order.to(self._rows.device)
        for number in range(start_batch, len(self._bounds)):
            start, end = self._bounds[number]
            indices = there[start:end]
            rows = self._rows[indices] if self._training else self._rows[start:end]
            views = self._shown_views(end - start, epoch, number)
            # Kept on the host: asking a GPU for them would make the host wait at each step.
            host_indices = None if views is None else order[start:end]
            if self._crop_flips is not None and views is not None:
                rows = apply_crop_flips(rows, self._crop_flips.of(views, order[start:end]))
            elif self._augment:
                generator = seeded_generator(self._seed, epoch, AUGMENT_STREAM, number)
                rows = augment_batch(rows, self._augment, generator=generator)
            images = to_float(rows, self._image_size)
            yield Batch(images, self._targets[indices], indices, views, host_indices)

    def _shown_views(self, images: int, epoch: int, number: int) -> Tensor | None:
        if self._views is None:
            return None
        if not self._training:
            return torch.full((images,), epoch)
        return draw_views(self._views, images, seed=self._seed, epoch=epoch, number=number)


__all__ = [
    "ResidentBatches",
    "ResidentImages",
    "ViewCropFlips",
    "to_float",
    "view_crop_flips",
]
