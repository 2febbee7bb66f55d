"""Tests of kdcam.corruptions.digital."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kdcam.corruptions.digital import jpeg, pixelate


@pytest.mark.parametrize(("share", "cells"), [(0.75, 24), (0.5, 16), (0.25, 8)])
def test_pixelate_leaves_so_many_cells(share: float, cells: int, pictures: Tensor) -> None:
    worse = pixelate(pictures, share)
    assert len(torch.unique(worse[0].permute(1, 0, 2).flatten(1), dim=0)) == cells
    assert len(torch.unique(worse[0].permute(2, 0, 1).flatten(1), dim=0)) == cells


def test_pixelate_never_keeps_all_pixels() -> None:
    tiny = torch.tensor([[0.0, 1.0], [1.0, 0.5]])[None, None]
    assert len(pixelate(tiny, 0.9).unique()) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_pillows(channels: int, pictures: Tensor) -> None:
    images = pictures[:3, :channels]
    worse = jpeg(images, 25)
    for image, found in zip(images, worse, strict=True):
        row = (image * 255).round().byte().permute(1, 2, 0).numpy()
        file = BytesIO()
        Image.fromarray(row.squeeze()).save(file, "JPEG", quality=25)
        wanted = np.asarray(Image.open(file)).reshape(row.shape)
        assert ((found * 255).round().byte().permute(1, 2, 0).numpy() == wanted).all()
