"""The process's memory: freed memory that it holds on to, and in one sentence memory that is not there."""

import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kdcam.errors import OutOfMemory

_CPU = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")
_DEVICE = re.compile(r"Tried to allocate ([\d.]+ \w+)")
_ARRAY = re.compile(r"Unable to allocate ([\d.]+ \w+)")  # numpy
_SIGNS = (
    "Storage size calculation overflowed",  # torch, of a size that no machine has
    "[enforce fail at alloc_cpu.cpp",
    "annot allocate memory",
    "failed to map segment",  # the system, of a library that cannot be loaded
    "is killed by signal: Killed",  # torch, of a data worker that the system ended
    "out of shared memory",
)
# malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
_LARGEST_IN_HEAP = 2**31 - 4096


def keep_freed_memory() -> bool:
    """Let freed memory stay with the process, on Linux with glibc; return whether it does now.

    By default glibc gives large blocks back to the system as soon as they are freed, and each training step on a CPU
    pays for thousands of page faults to get the same memory again. The setting is the whole process's, so it is for
    programs, not for a library, to call. The size of the process stays at its largest, which a training run reaches
    in its first step anyway.
    """
    if sys.platform != "linux":
        return False
    import ctypes  # here: the command line's help would wait for it

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, such as musl
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))


@contextmanager
def memory_errors(doing: str, way_out: str) -> Iterator[None]:
    """Turn the lack of memory of the work inside into ``OutOfMemory``.

    Args:
        doing: What the work is, as "reading the data".
        way_out: What to do, as "lower batch_size".
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        text = memory_text(error)
        if text is None:
            raise
        raise OutOfMemory(f"{doing}: {text}; {way_out}") from error


def memory_text(error: BaseException) -> str | None:
    """Return in words that memory could not be had, and how much was asked for; None: the error is of another kind."""
    amount = amount_asked(error)
    if amount is None:
        return None
    return f"out of memory ({amount} more was asked for)" if amount else "out of memory"


def amount_asked(error: BaseException) -> str | None:
    """Return how much memory an error says could not be had, "" where it does not tell; None: it is of another kind."""
    text = str(error)
    if (found := _CPU.search(text)) is not None:
        return f"{int(found[1]) / 1e9:,.1f} GB"
    if isinstance(error, MemoryError) or _is_of_device(error):
        found = _DEVICE.search(text) or _ARRAY.search(text)
        return "" if found is None else found[1]
    is_sign = any(sign in text for sign in _SIGNS) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    )
    return "" if is_sign else None


def _is_of_device(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # without it nothing has asked a device
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


__all__ = [
    "amount_asked",
    "keep_freed_memory",
    "memory_errors",
    "memory_text",
]
