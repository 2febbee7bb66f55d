"""How the process gets memory from the system: a training loop wants back at once what it has just freed."""

import ctypes
import sys

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
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, such as musl
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))


__all__ = ["keep_freed_memory"]
