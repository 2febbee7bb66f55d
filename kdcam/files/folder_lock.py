"""One writer for one folder: a lock that the system drops when its process ends, however it ends."""

import errno
import os
import sys
import weakref
from functools import partial
from pathlib import Path

from kdcam.errors import CheckpointError, FolderInUseError
from kdcam.settings.messages import reason_text

_NAME = ".lock"
_HELD = frozenset({errno.EAGAIN, errno.EACCES, errno.EDEADLK})


class FolderLock:
    """The lock on one folder, held from construction to ``release``.

    The file ``.lock`` stays when the lock is released: whoever removed it could remove one that another
    process has just locked.

    Raises:
        FolderInUseError: Another process holds the lock.
        CheckpointError: The lock file cannot be made or locked.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / _NAME
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            raise CheckpointError(
                f"{folder}: no file can be written there ({reason_text(error)}); "
                "choose a folder that you may write to with --output"
            ) from error
        try:
            _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise _not_locked(folder, error) from error
        # Closing the file drops the lock; the finalizer does it also when the object is forgotten.
        self._finalizer = weakref.finalize(self, os.close, descriptor)
        if sys.platform != "win32":
            # A forked data loader worker shares the lock and may outlive a killed parent by seconds.
            os.register_at_fork(after_in_child=partial(_drop_in_child, weakref.ref(self)))

    def release(self) -> None:
        """Let others write to the folder; a second call changes nothing."""
        self._finalizer()


def _drop_in_child(reference: "weakref.ref[FolderLock]") -> None:
    # Closes the child's copy of the descriptor only: the parent's keeps the lock.
    lock = reference()
    if lock is not None:
        lock.release()


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _not_locked(folder: Path, error: OSError) -> CheckpointError:
    if error.errno in _HELD:
        return FolderInUseError(
            f"{folder}: another process is writing to this run folder; "
            "wait until it ends or choose another folder with --output"
        )
    return CheckpointError(
        f"{folder}: the file system cannot lock a file ({reason_text(error)}); "
        "choose a folder on a local disk with --output"
    )


__all__ = ["FolderLock"]
