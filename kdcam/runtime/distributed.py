"""The thin layer over torch.distributed: what losses with moving state need to stay the same on every process."""

import os

import torch
import torch.distributed
from torch import Tensor

from kdcam.errors import RecipeError


def check_single_process() -> None:
    """Raise ``RecipeError`` where this is one of several processes that a launcher such as torchrun started.

    Each would do all of the work, and all would write to the same folder.
    """
    started = _started_processes()
    if started > 1:
        raise RecipeError(
            f"started as {started} processes (torchrun, or WORLD_SIZE={started}), and kdcam works in one: start it "
            "without torchrun or with --nproc-per-node=1; `kdcam compare --jobs N` does several runs at once"
        )


def _started_processes() -> int:
    """Return how many processes torch.distributed has, or where it has not begun what torchrun tells; at least 1."""
    if _several():
        return torch.distributed.get_world_size()
    # RANK as well: other programs set WORLD_SIZE for purposes of their own.
    size = os.environ.get("WORLD_SIZE", "") if "RANK" in os.environ else ""
    return int(size) if size.isdecimal() and size.isascii() and len(size) < 10 else 1


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


__all__ = ["check_single_process", "gather_over_processes", "sum_over_processes"]
