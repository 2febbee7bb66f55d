"""Looks at the installation and the machine: versions, builds, devices, threads, folders. Changes nothing."""

import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal, NamedTuple

from kdcam.files.paths import exists, is_folder
from kdcam.runtime.machine import describe_machine, package_versions, thread_advice, usable_cores
from kdcam.settings.messages import reason_text

FindingState = Literal["ok", "note", "problem"]

_SMALL_SHARED_MEMORY = 256 * 2**20  # bytes; a container's usual 64 MiB are soon full of decoded pictures
_SMALL_DISK = 2**30
_REINSTALL = "python -m pip install --force-reinstall torch torchvision"
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*>=\s*(?P<least>[\d.]+)")


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: FindingState
    found: str
    advice: str = ""  # what to do about it; empty where nothing is to be done


def examine() -> list[Finding]:
    """Return everything that was looked at, in the order of a report. Imports torch and torchvision."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        check_python,
        check_packages,
        check_torch,
        check_torchvision,
        check_folders,
        check_shared_memory,
    )
    return [finding for check in checks for finding in check()]


def check_python() -> Iterator[Finding]:
    """Yield the version of Python, the system and the processor."""
    machine = describe_machine()
    yield Finding("python", "ok", f"{package_versions()['python']} ({sys.executable})")
    yield Finding("machine", "ok", f"{machine['processor']}, {machine['cores']} cores; {machine['system']}")


def check_packages() -> Iterator[Finding]:
    """Yield the version of each package that kdcam requires, with those that are missing or too old."""
    yield Finding("kdcam", "ok", metadata.version("kdcam"))
    for requirement in metadata.requires("kdcam") or ():
        match = _REQUIREMENT.match(requirement)
        if match is None or "extra ==" in requirement:
            continue
        name, least = match["name"], match["least"]
        advice = f'python -m pip install "{name}>={least}"'
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "problem", f"not installed, at least {least} is needed", advice)
            continue
        if _numbers(version) < _numbers(least):
            yield Finding(name, "problem", f"{version}, at least {least} is needed", advice)
        else:
            yield Finding(name, "ok", version)


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()


def check_torch() -> Iterator[Finding]:
    """Yield torch's build, the devices it can use and its threads."""
    try:
        import torch  # here: where it cannot be imported, that is a finding
    except (ImportError, OSError, RuntimeError) as error:
        yield Finding(
            "torch",
            "problem",
            f"cannot be imported: {_first_line(error)}",
            "python -m pip install --force-reinstall torch",
        )
        return
    yield Finding("torch build", "ok", f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}")
    yield from _devices()
    threads, advice = torch.get_num_threads(), thread_advice(torch.get_num_threads())
    found = (
        f"{threads} on {usable_cores()} cores; OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'not set')}"
    )
    yield Finding("threads", "ok" if advice is None else "note", found, advice or "")


def _devices() -> Iterator[Finding]:
    import torch  # see check_torch

    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(index)
        yield Finding("device", "ok", f"cuda:{index}: {about.name}, {about.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        yield Finding("device", "ok", "mps: the Mac's GPU")
    yield Finding("device", "ok", "cpu")
    if shutil.which("nvidia-smi") and not torch.cuda.is_available():
        yield Finding(
            "device",
            "note",
            "an NVIDIA driver is there, but this torch cannot use it",
            f"install a CUDA build of both: {_REINSTALL}",
        )


def check_torchvision() -> Iterator[Finding]:
    """Yield whether torchvision can be imported beside this torch: the two are built for each other."""
    advice = f"install both from one place: {_REINSTALL}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torchvision = import_module("torchvision")
    except ModuleNotFoundError as error:
        yield Finding("torchvision build", "problem", _first_line(error), advice)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        versions = package_versions()
        found = (
            f"torch and torchvision builds do not match: torch {versions['torch']}, torchvision "
            f"{versions['torchvision']} ({_first_line(error)})"
        )
        yield Finding("torchvision build", "problem", found, advice)
    else:
        yield Finding("torchvision build", "ok", f"{torchvision.__version__}, fits torch")


def check_folders() -> Iterator[Finding]:
    """Yield whether the folders that kdcam and its libraries write to are writable, and their free space."""
    from kdcam.data.sources.mnist import data_root  # imports torch, see check_torch

    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    hub = Path(
        os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or default / "huggingface") / "hub"
    )
    torch_hub = Path(os.environ.get("TORCH_HOME") or default / "torch")
    yield check_writable_folder(
        "run folders", Path.cwd(), "start kdcam in a folder of your own, or name one with --output"
    )
    yield check_writable_folder(
        "data cache", data_root(None), "set XDG_CACHE_HOME, or data.root in the recipe"
    )
    yield check_writable_folder("timm weights", hub, "set HF_HOME to a folder that you may write to")
    yield check_writable_folder(
        "torch weights", torch_hub, "set TORCH_HOME to a folder that you may write to"
    )


def check_writable_folder(name: str, folder: Path, advice: str) -> Finding:
    """Return whether files can be made in a folder, or, where it is not there, in the closest above."""
    existing = next(path for path in (folder, *folder.parents) if exists(path))
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(name, "problem", f"{folder}: cannot be written to ({reason_text(error)})", advice)
    found = f"{folder}: writable, {free / 2**30:.1f} GiB free"
    if free < _SMALL_DISK:
        return Finding(name, "note", found, "make room: a run keeps its weights and the state to go on from")
    return Finding(name, "ok", found)


def check_shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:
    """Yield whether data workers have room to hand over their pictures; nothing on systems without it."""
    if not is_folder(folder):
        return
    free = shutil.disk_usage(folder).free
    found = f"{free / 2**20:,.0f} MiB free in {folder}"
    if free < _SMALL_SHARED_MEMORY:
        advice = "set data.workers = 0, or give the container more (docker run --shm-size=2g)"
        yield Finding("shared memory", "note", found, advice)
    else:
        yield Finding("shared memory", "ok", found)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


__all__ = [
    "Finding",
    "FindingState",
    "check_folders",
    "check_packages",
    "check_python",
    "check_shared_memory",
    "check_torch",
    "check_torchvision",
    "check_writable_folder",
    "examine",
]
