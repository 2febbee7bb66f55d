"""What storing a picture in less space does to it."""

from io import BytesIO

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


def pixelate(images: Tensor, strength: float) -> Tensor:
    """Return images as square cells of one colour each, ``strength`` cells a pixel along a side."""
    height, width = images.shape[-2:]
    size = (_cells(height, strength), _cells(width, strength))
    # Antialiased rather than the mean of a cell: with that, half the pixels changed a picture less than 0.6 of them.
    cells = interpolate(images, size, mode="bilinear", antialias=True)
    return interpolate(cells, (height, width), mode="nearest-exact")


def jpeg(images: Tensor, strength: float) -> Tensor:
    """Return images after a JPEG file of quality ``strength``; its last bits may differ between builds of libjpeg."""
    rows = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    stored = np.stack([_stored(row, round(strength)) for row in rows])
    return torch.from_numpy(stored).permute(0, 3, 1, 2).to(images).contiguous() / 255


def _cells(side: int, share: float) -> int:
    return max(1, min(side - 1, round(share * side)))


def _stored(row: np.ndarray, quality: int) -> np.ndarray:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(row[:, :, 0] if row.shape[2] == 1 else row).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file)).reshape(row.shape)


__all__ = ["jpeg", "pixelate"]
