"""The precision that losses and maps are worked out in, and small arithmetic that several modules share."""

import torch
from torch import Tensor

_SHORTEST = 1e-12  # rows below it have no direction


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """Return float32, or the tensor's own type where that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 (float64 stays): half precision is too coarse for sums, exp and small differences."""
    return tensor.to(wide_dtype(tensor))


def unit_rows(weight: Tensor) -> Tensor:
    """Return the rows of ``weight`` (K, E) with length 1, in `wide`; a row of zeros stays, without gradient."""
    weight = wide(weight)
    lengths = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    return torch.where(lengths > _SHORTEST, weight / lengths.clamp(min=_SHORTEST), 0.0)


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the values for which ``counted`` (bool, the same shape) holds; 0 where it holds for none."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


def share_of(hits: Tensor) -> float:
    """Return which share of a bool tensor of any shape, not an empty one, holds: exact, in [0, 1]."""
    return int(hits.sum()) / hits.numel()


__all__ = ["mean_where", "share_of", "unit_rows", "wide", "wide_dtype"]
