"""Number formats of a run: which device, autocast or not, gradient scaling or not."""

import re
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch

from kdcam.errors import RecipeError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str) -> torch.device:
    """Return the device of a name: auto, cpu, cuda, cuda:1, mps.

    Raises ``RecipeError`` for a name that is none and for a device that this machine or this torch has not.
    """
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if has["cuda"] else "mps" if has["mps"] else "cpu")
    kind, _, index = name.partition(":")
    if re.fullmatch(r"cpu|mps|cuda(:\d+)?", name) is None:
        raise RecipeError(f"--device {name}: must be auto, cpu, cuda, cuda:INDEX or mps")
    there = [known for known, available in has.items() if available]
    if kind == "cuda" and has["cuda"] and int(index or 0) >= torch.cuda.device_count():
        raise RecipeError(
            f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0"
        )
    if not has[kind]:
        raise RecipeError(
            f"--device {name}: not available to torch here; available: auto, {', '.join(there)}"
        )
    return torch.device(name)


class Precision(NamedTuple):
    """The number format of a run on a device."""

    device: torch.device
    dtype: torch.dtype  # float32: no autocast

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which forward passes run."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler; it does nothing except in fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    @property
    def waits(self) -> bool:
        """Whether reading a number from the device makes the host wait for work in flight."""
        return self.device.type != "cpu"


def pick_precision(name: str, device: torch.device) -> Precision:
    """Return the format of a recipe's ``precision`` on a device.

    Raises ``RecipeError`` where the device has not the format asked for.
    """
    if name == "fp32" or (name == "auto" and device.type != "cuda"):
        return Precision(device, torch.float32)
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if name == "auto":
            return Precision(device, torch.bfloat16 if has_bf16 else torch.float16)
        if name == "bf16" and not has_bf16:
            raise RecipeError('precision: "bf16" is not supported by this GPU; allowed: auto, fp32, fp16')
    elif name == "fp16":
        raise RecipeError(
            f'precision: "fp16" needs a CUDA device, found {device.type}; allowed: auto, fp32, bf16'
        )
    return Precision(device, DTYPES[name])


__all__ = ["Precision", "pick_device", "pick_precision"]
