"""Tests of kdcam.evaluation.robustness.corrupted_sets, on small sets of the published layouts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdcam.data.sources.cifar_classes import CIFAR10_NAMES, CIFAR100_NAMES
from kdcam.errors import DataError
from kdcam.evaluation.robustness.corrupted_sets import ORDER_NOTE, ArraySet, FolderSet, open_corrupted_set

CPU = torch.device("cpu")
CLASSES = ("cat", "dog", "frog")


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    """7 images of 3 classes; the first value of a picture is 30 * severity + its number."""
    np.save(tmp_path / "labels.npy", np.tile(np.array([0, 1, 2, 0, 1, 2, 0]), 5))
    for name in ("snow", "fog"):
        rows = np.zeros((35, 8, 8, 3), dtype=np.uint8)
        rows[:, 0, 0, 0] = [30 * severity + number for severity in range(1, 6) for number in range(7)]
        rows[:, :, :, 2] = 255 if name == "snow" else 0
        np.save(tmp_path / f"{name}.npy", rows)
    return tmp_path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """The classes dog and frog, of three that the classifier has, two pictures each; severities 1 and 5."""
    for severity in (1, 5):
        for shade, name in enumerate(("dog", "frog")):
            place = tmp_path / "snow" / str(severity) / name
            place.mkdir(parents=True)
            for number in range(2):
                colour = (40 * severity, 100 * shade, number)
                Image.new("RGB", (12, 10), colour).save(place / f"{number}.png")
    return tmp_path


def opened(
    folder: Path, classes: tuple[str, ...] = CLASSES, *, size: int = 8, channels: int = 3
) -> ArraySet | FolderSet:
    return open_corrupted_set(folder, classes, image_size=size, channels=channels)


def test_arrays_are_cut_into_severities(arrays: Path) -> None:
    found = opened(arrays)
    assert isinstance(found, ArraySet)
    assert found.names == ("fog", "snow")
    copy = found.batches("snow", 4, batch_size=3, device=CPU)
    parts = list(copy.epoch(0))
    assert copy.num_images == 7
    assert [len(part.images) for part in parts] == [3, 3, 1]
    images = torch.cat([part.images for part in parts])
    assert images.shape == (7, 3, 8, 8)
    assert (images[:, 0, 0, 0] * 255).round().tolist() == [120, 121, 122, 123, 124, 125, 126]
    assert (images[:, 2] == 1).all()
    assert torch.cat([part.targets for part in parts]).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_another_size(arrays: Path) -> None:
    (part,) = opened(arrays, size=16).batches("fog", 1, batch_size=10, device=CPU).epoch(0)
    assert part.images.shape == (7, 3, 16, 16)


@pytest.mark.parametrize(("data", "names"), [("CIFAR-10", CIFAR10_NAMES), ("CIFAR-100", CIFAR100_NAMES)])
def test_classes_of_a_published_set_stand_in_its_order(
    tmp_path: Path, data: str, names: tuple[str, ...]
) -> None:
    np.save(tmp_path / "labels.npy", np.tile(np.arange(len(names)), 5))
    assert opened(tmp_path, names).note == ""
    swapped = (*names[:3], names[4], names[3], *names[5:])
    with pytest.raises(
        DataError,
        match=rf"labels.npy: label 3 is '{names[3]}' in {data}'s order, and .* class 3 is '{names[4]}'; evaluate",
    ):
        opened(tmp_path, swapped)


def test_the_order_of_other_classes_is_taken_for_granted_and_said(arrays: Path) -> None:
    assert opened(arrays).note == ORDER_NOTE


def test_folders_are_read_by_label_name(folders: Path) -> None:
    found = opened(folders)
    assert isinstance(found, FolderSet)
    assert found.names == ("snow",)
    (part,) = found.batches("snow", 5, batch_size=10, device=CPU).epoch(0)
    assert part.images.shape == (4, 3, 8, 8)
    assert part.targets.tolist() == [1, 2, 1, 2]  # a set without cats shifts no label, and classes take turns
    assert (part.images[:, :, 4, 4] * 255).round().tolist() == [
        [200, 0, 0],
        [200, 100, 0],
        [200, 0, 1],
        [200, 100, 1],
    ]
    (gray,) = opened(folders, channels=1).batches("snow", 1, batch_size=10, device=CPU).epoch(0)
    assert gray.images.shape == (4, 1, 8, 8)


def test_missing_or_wrong_labels(arrays: Path) -> None:
    labels = arrays / "labels.npy"
    np.save(labels, np.arange(34) % 3)
    with pytest.raises(
        DataError, match=r"labels.npy: holds int64 of shape \(34,\); wanted whole numbers \(5 n,\)"
    ):
        opened(arrays)
    np.save(labels, np.arange(35) % 3)
    with pytest.raises(DataError, match=r"labels.npy: the five blocks of labels, one a severity, differ"):
        opened(arrays)
    np.save(labels, np.zeros(35))
    with pytest.raises(DataError, match=r"labels.npy: holds float64"):
        opened(arrays)
    labels.write_bytes(b"not an array")
    with pytest.raises(DataError, match=r"labels.npy: cannot be read as an .npy array"):
        opened(arrays)
    np.save(labels, np.array([{"a": 1}] * 35, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"labels.npy: cannot be read as an .npy array"):
        opened(arrays)
    labels.unlink()
    with pytest.raises(DataError, match=r"labels.npy: not there"):
        opened(arrays)


@pytest.mark.parametrize("shape", [(35, 0, 8, 3), (35, 8, 0, 3), (0, 8, 8, 3)])
def test_pictures_without_pixels_are_refused(arrays: Path, shape: tuple[int, ...]) -> None:
    np.save(arrays / "fog.npy", np.zeros(shape, np.uint8))
    with pytest.raises(
        DataError, match=r"fog.npy: cannot be read as an .npy array \(its array .* is empty\)"
    ):
        next(opened(arrays).batches("fog", 1, batch_size=4, device=CPU).epoch(0))


def test_arrays_that_do_not_fit(arrays: Path) -> None:
    with pytest.raises(DataError, match=r"labels 0 to 2 where the classifier has 4 classes"):
        opened(arrays, (*CLASSES, "horse"))
    with pytest.raises(DataError, match=r"3 channels where the classifier takes 1"):
        opened(arrays, channels=1)
    np.save(arrays / "fog.npy", np.zeros((30, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(
        DataError, match=r"fog.npy: holds uint8 of shape \(30, 8, 8, 3\); wanted uint8 \(35, height"
    ):
        opened(arrays).batches("fog", 1, batch_size=4, device=CPU)
    np.save(arrays / "fog.npy", np.zeros((35, 8, 8, 3), dtype=np.float32))
    with pytest.raises(DataError, match=r"fog.npy: holds float32"):
        opened(arrays).batches("fog", 1, batch_size=4, device=CPU)
    with pytest.raises(DataError, match=r"has no corruption 'snw'; did you mean 'snow'\?; it has fog, snow"):
        opened(arrays).batches("snw", 1, batch_size=4, device=CPU)
    with pytest.raises(ValueError, match=r"severity is 6"):
        opened(arrays).batches("snow", 6, batch_size=4, device=CPU)


def test_folders_that_do_not_fit(folders: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"snow/1/frog: the classifier has no class 'frog'; its classes: cat, dog"
    ):
        opened(folders, ("cat", "dog")).batches("snow", 1, batch_size=4, device=CPU)
    with pytest.raises(DataError, match=r"snow/2: not there; the layout is snow/1 to snow/5"):
        opened(folders).batches("snow", 2, batch_size=4, device=CPU)
    (folders / "snow" / "3" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"snow/3: holds no picture"):
        opened(folders).batches("snow", 3, batch_size=4, device=CPU)
    (folders / "snow" / "1" / "dog" / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"0.png: not an image"):
        list(opened(folders).batches("snow", 1, batch_size=4, device=CPU).epoch(0))


def test_no_set_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is not there; name the folder of CIFAR-10-C"):
        opened(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds neither labels.npy and NAME.npy"):
        opened(tmp_path)
