"""The real data sets beside the checkout, where they are: read, split and batched."""

import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from kdcam.data.datasets import batches, describe_data, load_data
from kdcam.data.source_configs import ImageFolderConfig, MnistConfig, YoloLabelsConfig
from kdcam.data.sources.image_folder import list_images

SHARED = Path(__file__).parents[2] / "../shared/data"

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not in {SHARED}"),
]


def unpack(archive, folder, *, most, limit):
    taken = Counter()
    with tarfile.open(SHARED / archive) as tar:
        for member in tar:
            place = str(Path(member.name).parent)
            if not member.isfile() or taken[place] >= most:
                continue
            taken[place] += 1
            tar.extract(member, folder, filter="data")
            if taken.total() >= limit:
                break
    return folder


def first_batch(parts, config):
    loader = batches(
        parts.train, batch_size=8, training=True, config=config, seed=0, device=torch.device("cpu")
    )
    return next(loader.epoch(0))


def test_mnist_idx_files():
    config = MnistConfig(name="mnist", root=SHARED / "mnist")
    parts = load_data(config)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (54_000, 6_000, 10_000)
    assert torch.bincount(parts.test.targets).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    mean = torch.cat([parts.train.images.pixels, parts.validation.images.pixels]).double().mean() / 255
    assert float(mean) == pytest.approx(0.1307, abs=1e-4)  # the well-known mean of the training images
    assert describe_data(config).train_images == 54_000
    assert first_batch(parts, config).images.shape == (8, 1, 28, 28)


def test_cifar10_as_an_image_folder(tmp_path):
    unpack("cifar10-jpg.tar.xz", tmp_path, most=10, limit=100)
    root = tmp_path / "cifar10"
    if not (root / "train").is_dir():  # the archive may begin with the test part
        shutil.move(root / "test", root / "train")
    config = ImageFolderConfig(root=root, image_size=32, test=0.2)
    listing = list_images(root)
    assert set(listing.label_names) <= {
        *("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    }
    parts = load_data(config)
    assert parts.train.images.pixels.shape[1:] == (3, 32, 32)
    assert describe_data(config).train_images == len(parts.train)
    assert first_batch(parts, config).images.shape == (8, 3, 32, 32)


def test_tiny_imagenet_as_an_image_folder(tmp_path):
    unpack("tiny-imagenet32-100.tar.xz", tmp_path, most=6, limit=400)
    root = tmp_path / "tiny-imagenet32-100"
    if not (root / "train").is_dir():
        shutil.move(root / "val", root / "train")
    shutil.rmtree(root / "val", ignore_errors=True)  # it may be cut off in the middle
    shutil.rmtree(root / "test", ignore_errors=True)
    config = ImageFolderConfig(root=root, image_size=32)
    parts = load_data(config)
    assert all(name.startswith("n") for name in parts.label_names)
    assert first_batch(parts, config).images.shape == (8, 3, 32, 32)


def test_imagenette_photos_are_streamed(tmp_path):
    unpack("imagenette224-boxes.tar", tmp_path, most=8, limit=10**6)
    root = tmp_path / "imagenette224-boxes"
    config = ImageFolderConfig(root=root, image_size=224, augment=("resized-crop", "flip"), workers=0)
    parts = load_data(config)
    assert len(parts.label_names) == 10
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (72, 80, 8)
    assert first_batch(parts, config).images.shape == (8, 3, 224, 224)


def test_gray_pgm_faces(tmp_path):
    unpack("orl_faces.tar.xz", tmp_path, most=10, limit=60)
    config = ImageFolderConfig(root=tmp_path / "orl_faces", image_size=64, channels=1)
    parts = load_data(config)
    assert parts.train.images.pixels.shape[1:] == (1, 64, 64)
    assert len(parts.test) > 0


def read_yolo_apart(folder, stems, num_classes):
    """Return the rows by the rule of the data's own notes: the set of first numbers of each label file."""
    rows = torch.zeros(len(stems), num_classes)
    for row, stem in zip(rows, stems, strict=True):
        file = folder / f"{stem}.txt"
        numbers = (
            {int(line.split()[0]) for line in file.read_text().splitlines()} if file.is_file() else set()
        )
        row[sorted(numbers)] = 1
    return rows


def test_coco_pictures_with_several_labels(tmp_path):
    with tarfile.open(SHARED / "coco256-multilabel.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    root = tmp_path / "coco256-multilabel"
    config = YoloLabelsConfig(root=root, image_size=32, test=0.0)
    summary, parts = describe_data(config), load_data(config)
    assert (len(parts.train), len(parts.validation), parts.test) == (128, 128, None)
    assert len(parts.label_names) == 80
    assert parts.label_names[:3] == ("person", "bicycle", "car")
    assert (summary.train_images, summary.label_names) == (128, parts.label_names)
    without_objects = 0
    for part, folder in ((parts.train, "train2017"), (parts.validation, "val2017")):
        stems = sorted(path.stem for path in (root / "images" / folder).iterdir())
        assert [path.stem for path in part.paths] == stems
        assert torch.equal(part.targets, read_yolo_apart(root / "labels" / folder, stems, 80))
        without_objects += int((part.targets.sum(1) == 0).sum())
    assert without_objects == 2
    assert first_batch(parts, config).targets.shape == (8, 80)
    held = load_data(YoloLabelsConfig(root=root, image_size=32, test=0.25)).test
    assert len(held) == pytest.approx(32, abs=8)  # of 80 classes, most of one or two pictures
    everyone = float(parts.train.targets[:, 0].mean())  # people are in about half of the pictures
    assert float(held.targets[:, 0].mean()) == pytest.approx(everyone, abs=0.1)
