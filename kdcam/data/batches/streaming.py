"""Pictures too large to hold: decoded and augmented one by one in worker processes, batch by batch."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdcam.data.batches.augmentation import augment_batch
from kdcam.data.batches.batch import AUGMENT_STREAM, Batch, ImageOrder, Views, draw_views
from kdcam.data.batches.decoding import as_tensor, fit_square, open_picture
from kdcam.data.batches.episodes import EpisodeOrder
from kdcam.data.batches.resident import to_float
from kdcam.data.common_config import MOST_PIXELS
from kdcam.errors import DataError
from kdcam.runtime.seeding import seeded_generator

if TYPE_CHECKING:
    from PIL.Image import Image

_LEAST_CROP = 0.08  # of the area: the usual lower bound of ImageNet training
_JITTER = 0.4  # brightness, contrast, saturation


class PictureSource(Protocol):
    """Pictures that can be read one by one, in any process."""

    def __len__(self) -> int:
        """Return the number of pictures."""

    def picture(self, index: int, at_least: int | None) -> "Image":
        """Return a picture; a JPEG may come at a reduced size with no side below ``at_least``."""


class FilePictures:
    """Picture files on disk of at most ``max_pixels`` pixels, and the digests of their bytes where they are known."""

    def __init__(
        self, paths: Sequence[Path], digests: Sequence[bytes] | None = None, *, max_pixels: int = MOST_PIXELS
    ) -> None:
        self.paths = tuple(paths)
        self.digests = None if digests is None else tuple(digests)
        self.max_pixels = max_pixels

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def picture(self, index: int, at_least: int | None) -> "Image":
        """Return the picture of a file."""
        return open_picture(self.paths[index], at_least=at_least, max_pixels=self.max_pixels)


class StreamImages:
    """Pictures of a source, in an order, with the size and channels that batches have."""

    def __init__(
        self, source: PictureSource, *, image_size: int, channels: int, order: Tensor | None = None
    ) -> None:
        self.source = source
        self.image_size = image_size
        self.channels = channels
        self.order = torch.arange(len(source)) if order is None else order  # (N,) positions in the source

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.order)

    def subset(self, indices: Tensor) -> Self:
        """Return the pictures at ``indices`` (M,), in that order."""
        return type(self)(
            self.source, image_size=self.image_size, channels=self.channels, order=self.order[indices]
        )

    def read(self, index: int, *, reduced: bool = False) -> Tensor:
        """Return a picture as evaluation sees it, (C, S, S) uint8; with ``reduced`` as training does.

        A JPEG is then decoded at a half, quarter or eighth of its size where that leaves two pixels for one.
        """
        image = self.source.picture(int(self.order[index]), 2 * self.image_size if reduced else None)
        return as_tensor(fit_square(image, self.image_size, self.channels))

    def read_augmented(self, index: int, names: Sequence[str], generator: torch.Generator) -> Tensor:
        """Return a picture (C, S, S) uint8 after the augmentations ``names``.

        torchvision's draw is seeded by one number of ``generator`` and leaves torch's own generator as it was.
        """
        single = [name for name in names if name in ("resized-crop", "color-jitter", "trivial-augment")]
        pixels = (
            self._read_by_torchvision(index, single, generator) if single else self.read(index, reduced=True)
        )
        rows = augment_batch(pixels.permute(1, 2, 0)[None], names, generator=generator)
        return rows[0].permute(2, 0, 1)

    def _read_by_torchvision(self, index: int, names: Sequence[str], generator: torch.Generator) -> Tensor:
        from torchvision.transforms import v2  # here: runs without these augmentations would wait for it

        cropping = "resized-crop" in names
        image = self.source.picture(int(self.order[index]), None if cropping else 2 * self.image_size)
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPU's as well
            if cropping:
                image = image.convert("L" if self.channels == 1 else "RGB")
                crop = v2.RandomResizedCrop(self.image_size, scale=(_LEAST_CROP, 1.0), interpolation=3)
                image = crop(image)
            else:
                image = fit_square(image, self.image_size, self.channels)
            if "color-jitter" in names:
                image = v2.ColorJitter(_JITTER, _JITTER, _JITTER)(image)
            if "trivial-augment" in names:
                image = v2.TrivialAugmentWide()(image)
        return as_tensor(image)


class _Decoded(Dataset[tuple[Tensor, int, int] | str]):
    """Reads one image for a key (variant, index); a failure is a value, not an error.

    An error raised in a worker process arrives as another one with a traceback for a message.
    The variant is the epoch or the view: seed, variant and index decide how the image is augmented.
    """

    def __init__(self, images: StreamImages, augment: Sequence[str], seed: int, *, reduced: bool) -> None:
        self.images, self.augment, self.seed, self.reduced = images, tuple(augment), seed, reduced

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int, int] | str:
        variant, index = key
        try:
            if not self.augment:
                return self.images.read(index, reduced=self.reduced), variant, index
            generator = seeded_generator(self.seed, variant, AUGMENT_STREAM, index)
            return self.images.read_augmented(index, self.augment, generator), variant, index
        except DataError as error:
            return str(error)


def _collate(items: list[tuple[Tensor, int, int] | str]) -> tuple[Tensor, Tensor, Tensor] | str:
    for item in items:
        if isinstance(item, str):
            return item
    read = [item for item in items if not isinstance(item, str)]
    rows = torch.stack([pixels.permute(1, 2, 0) for pixels, _, _ in read])
    variants, indices = torch.tensor([key for _, *key in read]).T
    return rows, variants, indices


class _Keys:
    """The batch sampler: lists of (variant, index), of the epoch and from the batch set last.

    The variant is the order's; with ``views`` drawn in training it is the view of the image.
    """

    def __init__(
        self,
        order: ImageOrder | EpisodeOrder,
        *,
        training: bool,
        seed: int,
        views: Views | None,
    ) -> None:
        self.order, self.bounds = order, order.bounds
        self.training, self.seed, self.views = training, seed, views
        self.epoch, self.start_batch = 0, 0

    def __len__(self) -> int:
        return len(self.bounds) - self.start_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.epoch
        indices = self.order.of_epoch(epoch).tolist()
        for number in range(self.start_batch, len(self.bounds)):
            start, end = self.bounds[number]
            variants = [self.order.variant(epoch, number)] * (end - start)
            if self.views is not None and self.training:
                drawn = draw_views(self.views, end - start, seed=self.seed, epoch=epoch, number=number)
                variants = drawn.tolist()
            yield list(zip(variants, indices[start:end], strict=True))


def _leave_signals_to_parent(worker: int) -> None:
    """Let a data worker ignore what asks a run to stop, which a terminal and a scheduler send to all its processes.

    The main process needs the workers' batches until it has kept its state; they end when it does.
    """
    del worker
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class StreamBatches:
    """The batches of a part whose pictures are decoded as they are needed; see ``Batches``.

    With ``views`` each training image is one of its views, drawn anew at each step; without ``training`` epoch v is
    view v of every image, in order. With ``episodes`` these say which images each batch holds.
    """

    def __init__(
        self,
        images: StreamImages,
        targets: Tensor,
        *,
        batch_size: int,
        training: bool,
        augment: Sequence[str],
        workers: int,
        seed: int,
        device: torch.device,
        views: Views | None = None,
        episodes: EpisodeOrder | None = None,
    ) -> None:
        order = episodes or ImageOrder(len(targets), batch_size, training=training, seed=seed)
        self._keys = _Keys(order, training=training, seed=seed, views=views)
        self._targets, self._device, self._image_size = targets, device, images.image_size
        self._loader: DataLoader[Any] = DataLoader(
            _Decoded(
                images,
                augment if training or views is not None else (),
                seed if views is None else views.seed,
                reduced=training or views is not None,  # evaluation decodes at full size, as predict does
            ),
            batch_sampler=self._keys,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=_leave_signals_to_parent,
            persistent_workers=training and workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else each epoch would draw a base seed from torch's own generator
        )

    @classmethod
    def in_order(
        cls, images: StreamImages, targets: Tensor, *, batch_size: int, device: torch.device
    ) -> Self:
        """Return the pictures as they are, in their order, decoded in this process."""
        return cls(
            images,
            targets,
            batch_size=batch_size,
            training=False,
            augment=(),
            workers=0,
            seed=0,
            device=device,
        )

    @property
    def num_images(self) -> int:
        """Images that one epoch yields."""
        return self._keys.bounds[-1][1] if self._keys.bounds else 0

    def __len__(self) -> int:
        """Batches in one epoch."""
        return len(self._keys.bounds)

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch from ``start_batch`` on; pictures before it are not decoded.

        Raises:
            DataError: a picture can no longer be read.
        """
        self._keys.epoch, self._keys.start_batch = epoch, start_batch
        for loaded in self._loader:
            if isinstance(loaded, str):
                raise DataError(loaded)
            rows, variants, indices = loaded
            there = [
                one.to(self._device, non_blocking=True) for one in (rows, self._targets[indices], indices)
            ]
            # Views and indices are kept on the host: asking a GPU for them would make the host wait at each step.
            seen = (None, None) if self._keys.views is None else (variants, indices)
            yield Batch(to_float(there[0], self._image_size), there[1], there[2], *seen)


__all__ = ["FilePictures", "PictureSource", "StreamBatches", "StreamImages"]
