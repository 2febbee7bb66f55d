import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import check_writable, remove_leftovers, write_atomically

# For each system call of one write in turn, a child process dies at it (half way into a write); the file must
# then hold one of the two contents, whole, and the next write must work and the leftovers be removed.
KILLS = """
import os, sys
from pathlib import Path
from kdcam.files.atomic_writes import remove_leftovers, write_atomically

path, old, new = Path(sys.argv[1]) / "state", b"old" * 100, b"new" * 1000
calls = ["open", "write", "fsync", "close", "replace"]
seen = set()
for point in range(100):
    write_atomically(path, old)
    child = os.fork()
    if child == 0:
        left = point
        def dying(real, half):
            def call(*args, **kwargs):
                global left
                if left == 0:
                    if half:
                        real(args[0], args[1][: len(args[1]) // 2])
                    os._exit(9)
                left -= 1
                return real(*args, **kwargs)
            return call
        for name in calls:
            setattr(os, name, dying(getattr(os, name), name == "write"))
        write_atomically(path, new)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    content = path.read_bytes()
    assert content in (old, new), (point, content[:20])
    seen.add(content)
    if status == 0:
        break
    assert status == 9
    remove_leftovers(path.parent)
    assert [entry.name for entry in path.parent.iterdir()] == ["state"], point
assert seen == {old, new}
print(point)
"""


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Make the first call of an `os` function fail with an error number, once."""

    def install(name: str, number: int) -> None:
        real = getattr(os, name)

        def failing(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(os, name, real)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, name, failing)

    return install


def test_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"")
    assert path.read_bytes() == b""
    assert list(tmp_path.iterdir()) == [path]


def test_follows_the_umask_like_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("call", ["open", "write", "fsync", "close", "replace"])
def test_full_disk_at_any_call_keeps_the_previous_file(
    tmp_path: Path, fail_at: Callable[[str, int], None], call: str
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"previous")
    fail_at(call, errno.ENOSPC)
    with pytest.raises(
        CheckpointError, match=r"file: 0\.0 MB could not be written \(No space left.*is whole"
    ):
        write_atomically(path, b"next")
    assert path.read_bytes() == b"previous"
    assert list(tmp_path.iterdir()) == [path]


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    write_atomically(tmp_path / "file", bytes(range(100)))
    assert (tmp_path / "file").read_bytes() == bytes(range(100))


def test_failed_folder_sync_is_told_and_the_new_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kdcam.files.atomic_writes._sync_folder", _raise(OSError(errno.EIO, "Input/output error"))
    )
    with pytest.raises(CheckpointError, match="folder could not be synced"):
        write_atomically(tmp_path / "file", b"next")
    assert (tmp_path / "file").read_bytes() == b"next"


def test_folder_that_cannot_be_synced_at_all_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:  # the file's came first
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "file", b"next")
    assert len(synced) == 2


def test_interrupt_keeps_the_previous_file_and_goes_on_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"previous")
    monkeypatch.setattr(os, "fsync", _raise(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"next")
    assert path.read_bytes() == b"previous"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_each_call_in_turn_leaves_one_of_the_two(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 7  # open, write, fsync, close, replace, open, fsync, close


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere/file.*No such file or directory.*--output"):
        write_atomically(tmp_path / "nowhere" / "file", b"")


def test_remove_leftovers_spares_other_files(tmp_path: Path) -> None:
    kept = {".hidden", "model.safetensors", "x.aside-1"}
    for name in (*kept, ".model.safetensors.aside-0a1b2c3d"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_check_writable_names_a_read_only_folder(tmp_path: Path, fail_at: Callable[[str, int], None]) -> None:
    fail_at("open", errno.EROFS)
    with pytest.raises(
        CheckpointError, match=r"no file can be written there \(Read-only file system\).*--output"
    ):
        check_writable(tmp_path)


def _raise(error: BaseException) -> Callable[..., Any]:
    def raising(*args: Any, **kwargs: Any) -> Any:
        raise error

    return raising
