"""The thin layer over torch.distributed: what losses with moving state need to stay the same on every process."""

import torch.distributed
from torch import Tensor


def sum_over_processes(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the sums of tensors over all processes, the same on each; the tensors themselves in a single one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return tensors
    summed = tuple(tensor.clone() for tensor in tensors)
    for tensor in summed:
        torch.distributed.all_reduce(tensor)
    return summed


__all__ = ["sum_over_processes"]
