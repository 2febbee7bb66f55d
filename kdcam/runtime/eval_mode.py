"""Eval mode for a while, with every submodule's own mode put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and all in it into eval mode, and each submodule back into its own mode at the end.

    ``module.train()`` afterwards would not do: it would unfreeze a BatchNorm that was frozen on purpose.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


__all__ = ["eval_mode"]
