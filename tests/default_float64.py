"""Float64 as torch's default type, in which numbers hardly depend on the processor."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kdcam.data.batches.batch import Batch


@contextmanager
def default_float64() -> Iterator[None]:
    """Make networks, losses and optimizers in float64; their first weights are drawn in it too.

    The last bits of normal numbers drawn in float32 depend on the width of the processor's vectors.
    """
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def wide(batch: Batch) -> Batch:
    """Return a batch with its images in float64, divided anew from the bytes that they were."""
    return batch._replace(images=batch.images.mul(255).round().to(torch.float64).div(255))
