import gzip
import struct
import tracemalloc

import numpy
import pytest
import torch

from kdcam.data.source_configs import MnistConfig
from kdcam.data.sources import mnist
from kdcam.data.sources.mnist import data_root, find_idx_files, load_mnist, read_idx
from kdcam.errors import DataError

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def encode(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_set(folder, *, compressed=(), labels=None):
    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    for name, count in zip(NAMES, (30, 30, 20, 20), strict=True):
        array = random.integers(0, 256, (count, 28, 28), dtype=numpy.uint8)
        if "labels" in name:
            array = (numpy.arange(count) % 10).astype(numpy.uint8) if labels is None else labels
        data = encode(array)
        if name in compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        else:
            (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("compressed", [(), NAMES, NAMES[:2]])
@pytest.mark.parametrize("below", ["", "MNIST/raw", "mnist"])
def test_files_are_found_plain_or_gzipped(tmp_path, compressed, below):
    write_set(tmp_path / below, compressed=compressed)
    source = load_mnist(MnistConfig(name="mnist", root=tmp_path))
    assert (len(source.train), len(source.test)) == (30, 20)
    assert source.train.targets.tolist() == [*range(10)] * 3
    assert source.train.images.pixels.shape == (30, 1, 28, 28)
    plain = read_idx(write_set(tmp_path / "other") / NAMES[0])
    assert torch.equal(source.train.images.pixels[:, 0], plain)


def test_the_plain_file_comes_before_the_gzipped_one(tmp_path):
    write_set(tmp_path)
    (tmp_path / f"{NAMES[0]}.gz").write_bytes(b"not read")
    assert find_idx_files(MnistConfig(name="mnist", root=tmp_path))[0].name == NAMES[0]


def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "DEBIAN_FASHION", write_set(tmp_path / "debian", compressed=NAMES))
    config = MnistConfig(name="fashion-mnist", root=tmp_path / "empty")
    assert find_idx_files(config)[0].parent == tmp_path / "debian"
    assert load_mnist(config).label_names[9] == "Ankle boot"
    assert find_idx_files(MnistConfig(name="mnist", root=tmp_path / "empty")) is None


def test_the_cache_folder_is_the_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_root(None) == tmp_path / "kdcam" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data_root(None) == tmp_path / "home" / ".cache" / "kdcam" / "data"


WHOLE = encode(numpy.zeros((3, 2, 2), numpy.uint8))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a", b"", "no idx file"),
        ("a", b"<html>", "no idx file"),
        ("a", WHOLE[:9], "no idx file"),
        ("a", b"\0\0\x0d" + WHOLE[3:], "no idx file of bytes"),
        ("a", WHOLE[:-1], "holds 11 bytes, but its header says 3 x 2 x 2"),
        ("a", WHOLE + b"x", "holds more than 12 bytes"),
        ("a", b"\0\0\x08\x05" + b"\xff" * 20, "holds 0 bytes"),
        ("a", b"\0\0\x08\xff" + b"\0" * 1020, "cannot read the file"),
        ("a.gz", b"nonsense", "cannot read the file"),
        ("a.gz", gzip.compress(WHOLE, mtime=0)[:-9], "cannot read the file"),
        ("a.gz", b"", "no idx file"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        read_idx(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_no_more_is_unpacked_than_the_header_and_the_limit_say(tmp_path, monkeypatch):
    file = tmp_path / "a.gz"
    bomb = gzip.compress(WHOLE + b"\0" * 50_000_000, mtime=0)
    file.write_bytes(bomb)
    tracemalloc.start()
    with pytest.raises(DataError, match="holds more than 12 bytes"):
        read_idx(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    large = b"\0\0\x08\x01" + struct.pack(">I", 2_000_000_000)
    file.write_bytes(gzip.compress(large, mtime=0))
    with pytest.raises(DataError, match=r"unpacks to 2,000,000,000 bytes, at most 1,000,000,000 .*gunzip"):
        read_idx(file)
    monkeypatch.setattr(mnist, "_UNPACKED_LIMIT", 11)
    file.write_bytes(gzip.compress(WHOLE, mtime=0))
    with pytest.raises(DataError, match="at most 11"):
        read_idx(file)
    (tmp_path / "plain").write_bytes(WHOLE)  # what lies on the disk unpacked is read at any size
    assert read_idx(tmp_path / "plain").shape == (3, 2, 2)


def test_images_without_pixels_are_refused(tmp_path):
    write_set(tmp_path)
    (tmp_path / NAMES[0]).write_bytes(encode(numpy.zeros((30, 0, 28), numpy.uint8)))
    with pytest.raises(DataError, match=r"\(30, 0, 28\) and .* all at least 1"):
        load_mnist(MnistConfig(name="mnist", root=tmp_path))


def test_labels_that_do_not_fit_are_refused(tmp_path):
    write_set(tmp_path, labels=numpy.full(30, 10, numpy.uint8))
    with pytest.raises(DataError, match="holds the label 10; allowed: 0 to 9"):
        load_mnist(MnistConfig(name="mnist", root=tmp_path))
    write_set(tmp_path, labels=numpy.zeros(29, numpy.uint8))
    with pytest.raises(DataError, match=r"\(30, 28, 28\) and .* \(29,\)"):
        load_mnist(MnistConfig(name="mnist", root=tmp_path))


def test_a_download_that_fails_is_a_data_error_with_the_way_out(tmp_path, monkeypatch, capsys):
    import torchvision.datasets

    def fail(root, download):
        print("trying a mirror")
        raise RuntimeError("Error downloading train-images")

    monkeypatch.setattr(torchvision.datasets, "MNIST", fail)
    with pytest.raises(DataError, match=r"not found in .*/here.*name their folder in data\.root"):
        load_mnist(MnistConfig(name="mnist", root=tmp_path / "here"))
    assert capsys.readouterr().out == ""


def test_a_missing_set_is_downloaded_into_root(tmp_path, monkeypatch):
    import torchvision.datasets

    monkeypatch.setattr(
        torchvision.datasets, "MNIST", lambda root, download: write_set(root / "MNIST" / "raw")
    )
    assert len(load_mnist(MnistConfig(name="mnist", root=tmp_path)).train) == 30
