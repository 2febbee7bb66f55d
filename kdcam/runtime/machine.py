"""What a result depends on beside the recipe: the versions of the packages and the machine."""

import math
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_OTHERS_CORES = 0.9  # in use, from which on somebody else computes; kdcam's choice
_PACKAGES = ("kdcam", "torch", "timm", "torchvision", "numpy", "safetensors")


def package_versions() -> dict[str, str | None]:
    """Return package -> version, None where it is not installed, and Python's own; imports none of them."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def describe_machine() -> dict[str, Any]:
    """Return the operating system, the processor's name and the number of cores that this process may use."""
    return {"system": platform.platform(), "processor": _processor(), "cores": usable_cores()}


def usable_cores() -> int:
    """Return how many cores this process may use, of all, of its affinity, and of its container's share of time."""
    quota = cpu_quota()
    cores = _cores()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many cores' time Linux gives to this process's control group and those above; None: no limit.

    Source: the kernel's Documentation/admin-guide/cgroup-v2.rst, cpu.max; of version 1 scheduler/sched-bwc.rst.
    """
    groups = [line.split(":", 2) for line in _text(own).splitlines() if line.count(":") >= 2]
    limits = []
    for _, controllers, path in groups:
        is_second = not controllers
        if not is_second and "cpu" not in controllers.split(","):
            continue
        base = root if is_second else root / "cpu"
        group = base / path.lstrip("/")
        while group.is_relative_to(base):
            limits.append(_quota_of(group))
            group = group.parent
    return min((limit for limit in limits if limit is not None), default=None)


def _quota_of(group: Path) -> float | None:
    words = _text(group / "cpu.max").split()
    if not words:
        words = [_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    numbers = [int(word) for word in words if word.isdecimal()]
    return numbers[0] / numbers[1] if len(numbers) == 2 and all(numbers) else None


def thread_advice(threads: int) -> str | None:
    """Return how many threads torch should have instead of ``threads``, with the reason, in words; None: they fit.

    Others are told by the load average (of the last minute) and, on Linux, by how many threads run or wait now: what
    ended just before is in the first of them only.
    """
    cores = usable_cores()
    if threads > cores:
        return (
            f"torch uses {threads} threads on {cores} usable core{'s' if cores > 1 else ''}, where they slow each "
            f"other down: set OMP_NUM_THREADS={cores}"
        )
    busy = _busy_cores()
    free = max(1, round((os.cpu_count() or cores) - busy))
    if busy < _OTHERS_CORES or threads <= free:
        return None
    return (
        f"other programs use about {busy:.0f} of {os.cpu_count()} cores, and torch {threads} threads, which would "
        f"wait for each other: set OMP_NUM_THREADS={free}"
    )


def _busy_cores() -> float:
    if not hasattr(os, "getloadavg"):  # Windows
        return 0.0
    busy = os.getloadavg()[0]
    fields = _text(Path("/proc/loadavg")).split()
    running = fields[3].partition("/")[0] if len(fields) > 3 else ""
    return min(busy, int(running) - 1) if running.isdecimal() else busy


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


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


__all__ = ["cpu_quota", "describe_machine", "package_versions", "thread_advice", "usable_cores"]
