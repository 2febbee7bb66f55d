"""The views of a fixed seed, pinned for each format: caches that lie on disks hold a teacher's outputs for them."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.transforms.v2
from PIL import Image
from torch import Tensor

from kdcam.data.batches.batch import Views
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.data.dataset_parts import Part
from kdcam.data.datasets import batches
from kdcam.data.source_configs import DigitsConfig
from kdcam.training.teachers.cache_key import FORMAT

CPU = torch.device("cpu")
VIEWS = Views(3, 5)
PINNED = {
    1: {"resident": "288fa970e11f5e95", "streamed": "2a270b6f92c0973e", "torchvision": "e8e84b4467f496a9"}
}
CHANGED = (
    "the drawing of views has changed, so caches that lie on disks would be read for other images: bump FORMAT in "
    "kdcam/training/teachers/cache_key.py, and pin the new digests under it"
)


def digest_of(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def assert_pinned(name: str, tensors: Iterable[Tensor]) -> None:
    found = digest_of(tensors)
    assert PINNED.get(FORMAT, {}).get(name) == found, f"{name}: {CHANGED}"


def pixels(count: int) -> Tensor:
    values = torch.arange(count * 3 * 16 * 16) * 37 % 251
    return values.view(count, 3, 16, 16).to(torch.uint8)


def test_views_of_images_in_memory() -> None:
    part = Part(ResidentImages(pixels(7), image_size=16), torch.arange(7))
    config = DigitsConfig(augment=("crop", "flip"))
    listing = batches(part, batch_size=3, training=False, config=config, seed=0, device=CPU, views=VIEWS)
    seen = (batch.images.mul(255).round().byte() for view in range(3) for batch in listing.epoch(view))
    assert_pinned("resident", seen)


def streamed(folder: Path, augment: tuple[str, ...]) -> list[Tensor]:
    paths = []
    for number, image in enumerate(pixels(4)):
        paths.append(folder / f"{number}.png")
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(paths[-1])
    listing = StreamBatches(
        StreamImages(FilePictures(paths), image_size=16, channels=3),
        torch.arange(4),
        batch_size=3,
        training=False,
        augment=augment,
        workers=0,
        seed=0,
        device=CPU,
        views=VIEWS,
    )
    return [batch.images.mul(255).round().byte() for view in range(3) for batch in listing.epoch(view)]


def test_views_of_streamed_pictures(tmp_path: Path) -> None:
    assert_pinned("streamed", streamed(tmp_path, ("crop", "flip")))


def test_seeds_and_settings_of_torchvisions_augmentations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What torchvision makes of them may change with its version, which is told as a warning."""
    calls: list[str] = []

    class Recorded:
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            self.how = f"{arguments} {sorted(settings.items())}"

        def __call__(self, image: Image.Image) -> Image.Image:
            calls.append(f"{self.how} {torch.initial_seed()}")
            return image

    for name in ("RandomResizedCrop", "ColorJitter", "TrivialAugmentWide"):
        monkeypatch.setattr(torchvision.transforms.v2, name, Recorded)
    streamed(tmp_path, ("resized-crop", "color-jitter", "trivial-augment"))
    assert len(calls) == 3 * 4 * 3
    assert_pinned("torchvision", [torch.tensor(list("\n".join(calls).encode()), dtype=torch.uint8)])
