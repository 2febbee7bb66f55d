"""CIFAR-10N's human labels beside the checkout, where they are: the wrong labels that people gave."""

import csv
import gzip
import io
import tarfile
from pathlib import Path

import pytest
import torch

from kdcam.data.common_config import NoiseConfig
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.label_noise import TrainingImages, add_noise
from kdcam.data.source_configs import ImageFolderConfig
from kdcam.errors import DataError

SHARED = Path(__file__).parents[2] / "../shared/data"
LABELS = SHARED / "cifar10n-labels.csv.gz"
PICTURES = SHARED / "cifar10-jpg.tar.xz"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not LABELS.is_file(), reason=f"CIFAR-10N's labels are not in {SHARED}"),
]


@pytest.fixture(scope="module")
def rows():
    with gzip.open(LABELS, "rt") as file:
        return list(csv.DictReader(file))


# The rates that CIFAR-10N's authors publish (Wei et al., 2022, arXiv:2110.12088).
@pytest.mark.parametrize(
    ("column", "percent"),
    [("aggre", 9.03), ("worse", 40.21), ("random1", 17.23), ("random2", 18.12), ("random3", 17.64)],
)
def test_the_published_rates(rows, column, percent):
    clean = torch.tensor([int(row["clean"]) for row in rows])
    images = TrainingImages(torch.arange(50_000), 50_000, None, None)
    config = NoiseConfig(kind="file", file=LABELS, column=column)
    noise = add_noise(clean, config, label_names=CIFAR10, images=images)
    assert 100 * noise.realised_rate == pytest.approx(percent, abs=0.03)
    assert noise.nominal_rate is None
    assert noise.noisy.tolist() == [int(row[column]) for row in rows]


def test_another_order_of_the_images_is_noticed(rows):
    clean = torch.tensor([int(row["clean"]) for row in rows]).sort().values
    images = TrainingImages(torch.arange(50_000), 50_000, None, None)
    config = NoiseConfig(kind="file", file=LABELS, column="worse")
    with pytest.raises(
        DataError, match=r"says that the image's clean label is 'frog', in the data it is 'airplane'"
    ):
        add_noise(clean, config, label_names=CIFAR10, images=images)


@pytest.mark.skipif(not PICTURES.is_file(), reason=f"CIFAR-10's pictures are not in {SHARED}")
def test_the_labels_of_a_folder_of_its_pictures(rows, tmp_path):
    taken = dict.fromkeys(CIFAR10, 0)
    with tarfile.open(PICTURES) as archive:
        for member in archive:
            part, label, _ = ["", "", "", *member.name.split("/")][-3:]
            if part == "train" and member.isfile() and taken[label] < 5:
                taken[label] += 1
                archive.extract(member, tmp_path, filter="data")
            if sum(taken.values()) == 50:
                break
    root = tmp_path / "cifar10" / "train"
    there = {f"train/{path.relative_to(root).as_posix()}" for path in root.rglob("*.jpg")}
    kept = [row for row in rows if row["path"] in there]
    written = io.StringIO()
    csv.writer(written).writerows([list(rows[0]), *(list(row.values()) for row in kept)])
    file = tmp_path / "labels.csv"
    file.write_text(written.getvalue())
    noise = NoiseConfig(kind="file", file=file, column="worse")
    config = ImageFolderConfig(
        root=tmp_path / "cifar10", image_size=32, validation=0.2, test=0.0, noise=noise
    )
    assert describe_data(config).train_images == 40
    parts = load_data(config)
    worse = {row["path"]: int(row["worse"]) for row in kept}
    names = [path.relative_to(tmp_path / "cifar10").as_posix() for path in parts.train.paths]
    assert parts.train.targets.tolist() == [worse[name] for name in names]
    assert 0 < parts.noise.realised_rate < 1
