"""Writing a file so that a kill, a crash or a full disk leaves either the old one or the new one, whole."""

import errno
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

from kdcam.errors import CheckpointError
from kdcam.files.paths import exists, shown
from kdcam.settings.messages import reason_text

_ASIDE = ".aside-"
# What file systems that cannot sync a folder answer; there the rename itself is as much as can be had.
_NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOTSUP})


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``, or leave it as it was.

    The bytes go to a file aside in the same folder, which is synced to the disk and then renamed; the folder
    is synced last. Whatever fails before the rename leaves the previous file whole and removes the one aside.

    Raises:
        CheckpointError: The disk is full, or the folder is missing or may not be written to.
    """
    aside = path.with_name(f".{path.name}{_ASIDE}{secrets.token_hex(4)}")
    try:
        _write_new(aside, data)
        aside.replace(path)
    except BaseException as error:
        with suppress(OSError, ValueError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError | ValueError):
            raise CheckpointError(_cannot_write(path, len(data), error)) from error
        raise
    try:
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{path}: written, but its folder could not be synced to the disk ({reason_text(error)}); "
            "the file is whole now and may be lost if the machine stops. Check the disk"
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Remove the files aside that killed processes left in ``folder``; nobody else may be writing there."""
    for leftover in folder.glob(f".*{_ASIDE}*"):
        with suppress(OSError):
            leftover.unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Create a file in ``folder`` and remove it again.

    Raises:
        CheckpointError: No file can be created there.
    """
    probe = folder / f".probe{_ASIDE}{secrets.token_hex(4)}"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        probe.unlink()
    except OSError as error:
        raise CheckpointError(
            f"{folder}: no file can be written there ({reason_text(error)}); "
            "choose a folder that you may write to with --output"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it where they are missing.

    Raises:
        CheckpointError: It cannot be made.
    """
    try:
        str(folder).encode()  # safetensors opens no other path, and no JSON file can tell it
        folder.mkdir(parents=True, exist_ok=True)
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{shown(folder)}: the name of the folder is no UTF-8; choose another with --output"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise CheckpointError(
            f"{shown(folder)}: the folder cannot be made ({reason_text(error)}); "
            "choose a folder that you may write to with --output"
        ) from error


def write_synced(descriptor: int, data: bytes) -> None:
    """Write all of ``data`` to an open file and sync it to the disk; ``OSError`` where the system refuses."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    os.fsync(descriptor)


def _write_new(path: Path, data: bytes) -> None:
    # O_BINARY: Windows would turn every \n into \r\n
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        write_synced(descriptor, data)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":  # a folder cannot be opened there, and a rename is journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _cannot_write(path: Path, size: int, error: OSError | ValueError) -> str:
    kept = "; the previous file is whole" if exists(path) else ""
    return (
        f"{shown(path)}: {size / 1e6:.1f} MB could not be written ({reason_text(error)}){kept}. "
        "Free some space or choose another folder with --output"
    )


__all__ = ["check_writable", "make_folder", "remove_leftovers", "write_atomically", "write_synced"]
