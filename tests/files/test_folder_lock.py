import errno
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from kdcam.errors import CheckpointError, FolderInUseError
from kdcam.files.folder_lock import FolderLock

HOLD = """
import os, sys, time
from pathlib import Path
from kdcam.files.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
if sys.argv[2] == "fork" and os.fork() == 0:
    time.sleep(30)
    os._exit(0)
print("held", flush=True)
time.sleep(30)
"""


def _holder(folder: Path, mode: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), mode],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_lock_is_refused_until_the_first_is_released(tmp_path: Path) -> None:
    first = FolderLock(tmp_path)
    with pytest.raises(FolderInUseError, match=r"another process is writing to this run folder.*--output"):
        FolderLock(tmp_path)
    first.release()
    first.release()
    FolderLock(tmp_path).release()


def test_forgotten_lock_is_dropped(tmp_path: Path) -> None:
    FolderLock(tmp_path)
    FolderLock(tmp_path).release()


def test_lock_of_another_process_dies_with_it(tmp_path: Path) -> None:
    with _holder(tmp_path, "alone") as process:
        with pytest.raises(CheckpointError, match="another process"):
            FolderLock(tmp_path)
        process.kill()
    FolderLock(tmp_path).release()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_forked_child_that_outlives_a_killed_holder_does_not_hold_the_lock(tmp_path: Path) -> None:
    import os
    import signal

    with _holder(tmp_path, "fork") as process:
        process.kill()
        process.wait()
        try:
            # The child may be taken off its processor between the fork and its first line: give it a moment.
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                with suppress(CheckpointError):
                    FolderLock(tmp_path).release()
                    break
                time.sleep(0.05)
            FolderLock(tmp_path).release()
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the child, in the session that the holder started


def test_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*args: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("os.open", read_only)
    with pytest.raises(CheckpointError, match=r"no file can be written there \(Read-only file system\)"):
        FolderLock(tmp_path)


def test_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(descriptor: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("kdcam.files.folder_lock._lock", unsupported)
    with pytest.raises(CheckpointError, match="cannot lock a file") as refused:
        FolderLock(tmp_path)
    assert not isinstance(refused.value, FolderInUseError)  # waiting would not help
