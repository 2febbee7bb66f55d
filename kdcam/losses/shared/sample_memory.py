"""What a loss remembers of each training image."""

import torch
from torch import Tensor, nn

from kdcam.runtime.distributed import gather_over_processes


class LatestRecord(nn.Module):
    """The latest value seen of each training image, the same on every process.

    ``values`` is a buffer (n, ...) by position in the training part; it starts as a copy of ``start``.
    """

    values: Tensor

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", start.clone())

    @torch.no_grad()
    def write(self, indices: Tensor, values: Tensor) -> None:
        """Keep the values (N, ...) of a batch's images, which are at ``indices`` (N,), from all processes.

        Of an image that comes more than once the last value counts; every process must bring as many images.
        """
        indices, values = gather_over_processes(indices, values.to(self.values.dtype))
        # All copies of an image write the same value, else which of them wins may differ between processes.
        ordered, origin = indices.sort(stable=True)
        last = origin[torch.searchsorted(ordered, indices, right=True) - 1]
        self.values.index_copy_(0, indices, values[last])


__all__ = ["LatestRecord"]
