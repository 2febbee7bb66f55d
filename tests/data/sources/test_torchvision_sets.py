import numpy
import pytest
import torch
import torchvision.datasets
from PIL import Image

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.source_configs import TORCHVISION_SETS, CifarConfig, TorchvisionConfig
from kdcam.data.sources.torchvision_sets import SETS
from kdcam.errors import DataError


def test_every_set_offered_has_its_row():
    assert sorted(SETS) == sorted(TORCHVISION_SETS)


def write_eurosat(root):
    for name in ("Forest", "River"):
        folder = root / "eurosat" / "2750" / name
        folder.mkdir(parents=True)
        for number in range(20):
            Image.fromarray(numpy.full((64, 64, 3), number, numpy.uint8)).save(
                folder / f"{name}_{number}.jpg"
            )


def write_textures(root):
    base = root / "dtd" / "dtd"
    (base / "labels").mkdir(parents=True)
    for part, numbers in (("train", range(4)), ("val", range(4, 6)), ("test", range(6, 9))):
        lines = [f"{name}/{name}_{number}.jpg" for name in ("banded", "dotted") for number in numbers]
        (base / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            (base / "images" / line).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numpy.full((50, 80, 3), 9, numpy.uint8)).save(base / "images" / line)


def write_pets(root):
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    (base / "images").mkdir()
    for part, numbers in (("trainval", range(20)), ("test", range(20, 26))):
        lines = [f"{n}_{i} {k} 1 1" for k, n in ((1, "Abyssinian"), (2, "beagle")) for i in numbers]
        (base / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            Image.fromarray(numpy.full((50, 80, 3), 9, numpy.uint8)).save(
                base / "images" / f"{line.split()[0]}.jpg"
            )


@pytest.mark.parametrize(
    ("name", "write", "sizes"),
    [
        ("EuroSAT", write_eurosat, (32, 4, 4)),
        ("DTD", write_textures, (8, 4, 6)),
        ("OxfordIIITPet", write_pets, (36, 4, 12)),
    ],
)
@pytest.mark.parametrize("image_size", [32, 72])
def test_the_authors_parts_are_used_and_missing_ones_held_out(
    tmp_path, monkeypatch, name, write, sizes, image_size
):
    write(tmp_path)
    loaded = getattr(torchvision.datasets, name)
    monkeypatch.setattr(  # the files are there but fail the download's own checks of completeness
        torchvision.datasets, name, lambda root, download, **part: loaded(root=root, download=False, **part)
    )
    parts = load_data(TorchvisionConfig(name=f"torchvision:{name}", root=tmp_path, image_size=image_size))
    assert tuple(len(part) for part in (parts.train, parts.validation, parts.test)) == sizes
    assert torch.bincount(parts.train.targets).tolist() == [sizes[0] // 2] * 2
    assert len(parts.label_names) == 2
    first = parts.test.images.subset(torch.tensor([0]))
    pixels = first.pixels[0] if isinstance(first, ResidentImages) else first.read(0)
    assert pixels.shape == (3, image_size, image_size)


def test_a_set_that_cannot_be_fetched_is_a_data_error(tmp_path, monkeypatch):
    def fail(root, download, **part):
        raise RuntimeError("404")

    monkeypatch.setattr(torchvision.datasets, "DTD", fail)
    with pytest.raises(DataError, match=r"DTD: not found in .*\(404\)"):
        load_data(TorchvisionConfig(name="torchvision:DTD", root=tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(tmp_path, monkeypatch, name):
    class Stored:
        def __init__(self, root, download, train):
            count = 200 if train else 20
            self.data = numpy.arange(count, dtype=numpy.uint8)[:, None, None, None] * numpy.ones(
                (1, 32, 32, 3), numpy.uint8
            )
            self.targets = [i % 10 for i in range(count)]
            self.classes = [f"c{k}" for k in range(10)]

    monkeypatch.setattr(torchvision.datasets, name.upper(), Stored)
    parts = load_data(CifarConfig(name=name, root=tmp_path))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (180, 20, 20)
    assert parts.train.images.pixels.shape[1:] == (3, 32, 32)
    assert torch.equal(parts.test.images.pixels[:, 1, 5, 5], torch.arange(20, dtype=torch.uint8))
    assert parts.label_names[3] == "c3"
    summary = describe_data(CifarConfig(name=name, root=tmp_path))
    assert len(summary.label_names) == (10 if name == "cifar10" else 100)
    assert summary.train_images == 45_000


@pytest.mark.parametrize("name", TORCHVISION_SETS)
def test_descriptions_download_nothing(tmp_path, name):
    summary = describe_data(TorchvisionConfig(name=f"torchvision:{name}", root=tmp_path / "none"))
    assert len(summary.label_names) >= 10
    assert summary.train_images is None
    assert not (tmp_path / "none").exists()
