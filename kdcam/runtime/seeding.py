"""Random generators that are a function of a few whole numbers and of nothing else."""

import numpy
import torch


def seeded_generator(*numbers: int) -> torch.Generator:
    """Return a CPU generator that depends on all of ``numbers`` (each at least 0) and on their order.

    Neighbouring numbers give unrelated streams; torch's and numpy's global generators are left alone.
    """
    # the length goes in because SeedSequence pads with zeros: (1,) and (1, 0) would be the same
    state = numpy.random.SeedSequence((len(numbers), *numbers)).generate_state(1, numpy.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


__all__ = ["seeded_generator"]
