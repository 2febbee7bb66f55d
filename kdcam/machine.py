"""What a result depends on beside the recipe: the versions of the packages and the machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("kdcam", "torch", "timm", "torchvision", "numpy", "safetensors")


def package_versions() -> dict[str, str | None]:
    """Return package -> version, None where it is not installed, and Python's own; imports none of them."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def describe_machine() -> dict[str, Any]:
    """Return the operating system, the processor's name and the number of cores that this process may use."""
    return {"system": platform.platform(), "processor": _processor(), "cores": _cores()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


__all__ = ["describe_machine", "package_versions"]
