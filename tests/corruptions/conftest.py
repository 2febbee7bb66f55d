"""Pictures for tests of corruptions: real handwritten digits in two colours."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from kdcam.data.batches.resident import to_float
from kdcam.data.datasets import load_data
from kdcam.data.source_configs import DigitsConfig


def coloured_digits(count: int, size: int) -> Tensor:
    """Return (N, 3, S, S) in [0, 1]: digits of one colour on a ground of another, with a slant of light."""
    pixels = load_data(DigitsConfig(name="digits")).train.images.pixels[:count]
    shapes = to_float(pixels.permute(0, 2, 3, 1), pixels.shape[-1])[:, :1]
    shapes = interpolate(shapes, (size, size), mode="bilinear")
    colours = torch.rand(2, count, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    light = torch.linspace(0.8, 1, size)[:, None]
    return (light * (shapes * colours[0] + (1 - shapes) * colours[1])).contiguous()


@pytest.fixture(scope="session")
def pictures() -> Tensor:
    return coloured_digits(40, 32)
