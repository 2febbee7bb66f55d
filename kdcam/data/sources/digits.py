"""scikit-learn's handwritten digits, read from the installed package's file without importing scikit-learn."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy
import torch
from torch import Tensor

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.dataset_parts import Part, SourceParts
from kdcam.data.source_configs import DigitsConfig
from kdcam.errors import DataError

DIGIT_NAMES = tuple("0123456789")
TRAIN_DIGITS = 1300  # of 1797, in file order; the rest is the test part


def read_digits() -> tuple[Tensor, Tensor]:
    """Return the 1,797 digits as (1797, 8, 8) uint8 of values 0 to 16, and their labels (1797,) int64."""
    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package else None
    if not folders:
        raise DataError(
            "the digits come with scikit-learn, which is not installed; install it: pip install scikit-learn"
        )
    path = Path(next(iter(folders))) / "datasets" / "data" / "digits.csv.gz"
    try:
        with gzip.open(path, "rt") as file:
            table = numpy.loadtxt(file, delimiter=",", dtype=numpy.uint8)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path}: cannot read the digits ({error}); reinstall scikit-learn") from None
    values = torch.from_numpy(table)
    return values[:, :64].reshape(-1, 8, 8), values[:, 64].long()


def load_digits(config: DigitsConfig) -> SourceParts:
    """Return the training and test digits."""
    values, targets = read_digits()
    pixels = (values.float() * (255 / 16)).round().to(torch.uint8)[:, None]
    train, test = (
        Part(ResidentImages(pixels[cut], image_size=config.image_size), targets[cut])
        for cut in (slice(None, TRAIN_DIGITS), slice(TRAIN_DIGITS, None))
    )
    return SourceParts(train, None, test, DIGIT_NAMES, channels=1)


__all__ = ["DIGIT_NAMES", "TRAIN_DIGITS", "load_digits", "read_digits"]
