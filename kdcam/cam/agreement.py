"""How alike two maps of one image are, whatever their scale, offset and size."""

import torch
from torch import Tensor

from kdcam.cam.maps import pool_to_smaller
from kdcam.runtime.numerics import wide

_FLAT_SPREAD = (
    1e-6  # a map whose spread is not above this share of its largest magnitude is constant but for rounding
)


def map_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Return Pearson's correlation over the positions of two maps of each image.

    Args:
        first: (N, H, W), of any scale and offset.
        second: (N, H', W'); the maps are brought to the smaller height and width by average pooling.

    Returns:
        (N,) in [-1, 1]. 1: alike but for scale and offset; 0: nothing in common, or one of them is constant
        (as every map of one position is); -1: one is high where the other is low.
    """
    if first.ndim != 3 or second.ndim != 3 or len(first) != len(second):
        raise ValueError(
            f"maps of shape {tuple(first.shape)} and {tuple(second.shape)}; wanted (N, H, W) and (N, H', W')"
        )
    one, other = (_standardised(maps) for maps in pool_to_smaller(wide(first), wide(second)))
    return (one * other).sum(1).clamp(-1, 1)


def _standardised(maps: Tensor) -> Tensor:
    """Return maps (N, H, W) as rows (N, H W) of mean 0 and length 1; a constant one as zeros."""
    rows = maps.flatten(1)
    largest = rows.abs().amax(1, keepdim=True)
    rows = rows / largest.clamp(min=torch.finfo(rows.dtype).tiny)
    centred = rows - rows.mean(1, keepdim=True)
    length = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
    flat = length <= _FLAT_SPREAD * rows.shape[1] ** 0.5
    return torch.where(flat, 0.0, centred / length.masked_fill(flat, 1.0))


__all__ = ["map_similarity"]
