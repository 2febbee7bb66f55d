"""The precision that losses and maps are worked out in, whatever a network computed in."""

import torch
from torch import Tensor


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """Return float32, or the tensor's own type where that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 (float64 stays): half precision is too coarse for sums, exp and small differences."""
    return tensor.to(wide_dtype(tensor))


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the values for which ``counted`` (bool, the same shape) holds; 0 where it holds for none."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


__all__ = ["mean_where", "wide", "wide_dtype"]
