"""The thin layer over torch.distributed: what losses with moving state need to stay the same on every process."""

import torch
import torch.distributed
from torch import Tensor


def sum_over_processes(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the sums of tensors over all processes, the same on each; the tensors themselves in a single one."""
    if not _several():
        return tensors
    summed = tuple(tensor.clone() for tensor in tensors)
    for tensor in summed:
        torch.distributed.all_reduce(tensor)
    return summed


def gather_over_processes(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors (N, ...) of all processes one below the other, by rank; the tensors themselves in a single one.

    The shapes must be the same on each process, as those of batches are. No gradient passes.
    """
    if not _several():
        return tensors
    return tuple(_gathered(tensor.detach().contiguous()) for tensor in tensors)


def _several() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _gathered(tensor: Tensor) -> Tensor:
    parts = [torch.empty_like(tensor) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(parts, tensor)
    return torch.cat(parts)


__all__ = ["gather_over_processes", "sum_over_processes"]
