"""MNIST and Fashion-MNIST from idx files, plain or gzipped, found where people keep them or downloaded."""

import contextlib
import gzip
import io
import math
import zlib
from pathlib import Path
from typing import IO, NamedTuple

import numpy
import torch
from torch import Tensor

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.dataset_parts import Part, SourceParts
from kdcam.data.source_configs import MnistConfig
from kdcam.data.sources.digits import DIGIT_NAMES
from kdcam.errors import DataError
from kdcam.files.paths import cache_home, expanded, is_file

FASHION_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
_UNPACKED_LIMIT = 1_000_000_000  # bytes, some twenty times MNIST's images: kdcam's choice
_CHUNK = 2**20  # bytes
_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class _Set(NamedTuple):
    torchvision_name: str
    label_names: tuple[str, ...]


_SETS = {"mnist": _Set("MNIST", DIGIT_NAMES), "fashion-mnist": _Set("FashionMNIST", FASHION_NAMES)}


def data_root(root: Path | None) -> Path:
    """Return the folder where downloaded data sets live: ``root``, or kdcam's cache folder when it is None."""
    return cache_home() / "data" if root is None else expanded(root)


def read_idx(path: Path) -> Tensor:
    """Return the array of an idx file of unsigned bytes, gzipped when the name ends in .gz, with its own shape.

    Raises:
        DataError: the file cannot be read, is no idx file of bytes, or is shorter or longer than its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return torch.from_numpy(_read_array(file, path).copy())
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: cannot read the file ({error}); fetch it again") from None


def _read_array(
    file: IO[bytes] | gzip.GzipFile, path: Path
) -> numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.uint8]]:
    start = file.read(4)
    sizes = file.read(4 * start[3]) if len(start) == 4 else b""
    if len(start) < 4 or start[:3] != b"\0\0\x08" or len(sizes) < 4 * start[3]:
        raise DataError(f"{path}: begins with {start!r}, which is no idx file of bytes; fetch it again")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    wanted = math.prod(shape)
    if path.suffix == ".gz" and wanted > _UNPACKED_LIMIT:
        raise DataError(
            f"{path}: unpacks to {wanted:,} bytes, at most {_UNPACKED_LIMIT:,} are unpacked here; fetch it again, or "
            "unpack it yourself (gunzip)"
        )
    chunks, found = [], 0
    while found <= wanted and (chunk := file.read(min(_CHUNK, wanted + 1 - found))):
        chunks.append(chunk)
        found += len(chunk)
    if found != wanted or not shape:
        more = "more than " * (found > wanted)
        raise DataError(
            f"{path}: holds {more}{min(found, wanted):,} bytes, but its header says {' x '.join(map(str, shape))}; "
            "the file is cut off or damaged, fetch it again"
        )
    return numpy.frombuffer(b"".join(chunks), numpy.uint8).reshape(shape)


def find_idx_files(config: MnistConfig) -> tuple[Path, ...] | None:
    """Return the four idx files, training images first, from the first folder that has them all; else None."""
    root = data_root(config.root)
    folders = [root, root / _SETS[config.name].torchvision_name / "raw", root / config.name]
    if config.name == "fashion-mnist":
        folders.append(DEBIAN_FASHION)
    for folder in folders:
        found = [path for name in _FILES for path in (folder / name, folder / f"{name}.gz") if is_file(path)]
        chosen = {
            path.name.removesuffix(".gz"): path for path in reversed(found)
        }  # the plain file comes first
        if len(chosen) == len(_FILES):
            return tuple(chosen[name] for name in _FILES)
    return None


def download(name: str, root: Path, **arguments: object) -> object:
    """Return torchvision's data set ``name`` in ``root``, downloaded when it is not there.

    Raises:
        DataError: torchvision cannot fetch or read it.
    """
    import torchvision.datasets  # here: a run on other data would wait for it

    try:
        root.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(io.StringIO()):  # torchvision prints; stdout is for results
            return getattr(torchvision.datasets, name)(root=root, download=True, **arguments)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())  # torchvision's fills several lines
        raise DataError(
            f"{name}: not found in {root}, and torchvision could not download it ({reason}); "
            "put the files there, name their folder in data.root, or check the network"
        ) from None


def load_mnist(config: MnistConfig) -> SourceParts:
    """Return the training and test parts of MNIST or Fashion-MNIST."""
    known, root = _SETS[config.name], data_root(config.root)
    files = find_idx_files(config)
    if files is None:
        download(known.torchvision_name, root)
        files = find_idx_files(config)
    if files is None:
        raise DataError(f"{root}: torchvision's download of {known.torchvision_name} left no idx files there")
    train = _part(files[0], files[1], config.image_size)
    test = _part(files[2], files[3], config.image_size)
    return SourceParts(train, None, test, known.label_names, channels=1)


def _part(image_file: Path, label_file: Path, image_size: int) -> Part:
    pixels, labels = read_idx(image_file), read_idx(label_file)
    if pixels.ndim != 3 or labels.ndim != 1 or len(pixels) != len(labels) or pixels.numel() == 0:
        raise DataError(
            f"{image_file} has shape {tuple(pixels.shape)} and {label_file.name} {tuple(labels.shape)}; "
            "wanted (N, H, W) and (N,) with the same N, all at least 1"
        )
    if int(labels.max()) > 9:
        raise DataError(f"{label_file}: holds the label {int(labels.max())}; allowed: 0 to 9")
    return Part(ResidentImages(pixels[:, None], image_size=image_size), labels.long())


__all__ = ["FASHION_NAMES", "data_root", "download", "find_idx_files", "load_mnist", "read_idx"]
