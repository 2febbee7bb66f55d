"""How a trained network answers to attacks and to what was wrong in its training labels."""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kdcam import attacks


def __getattr__(name: str) -> ModuleType:
    # At first use: the settings of attacks in this package are read without torch.
    if name != "attacks":
        raise AttributeError(f"module 'kdcam.evaluation.robustness' has no attribute {name!r}")
    return import_module("kdcam.attacks")


__all__ = ["attacks"]
