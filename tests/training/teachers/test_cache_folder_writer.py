"""A fault at each write of a cache in turn: what is there afterwards is whole, or made again."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from cached_runs import small_key
from kill_at_each_write import FaultAt, plant

from kdcam.errors import CheckpointError
from kdcam.training.teachers.cache_folder import (
    CacheWriter,
    EntryShapes,
    empty_contents,
    open_arrays,
    read_contents,
)

KEY = small_key(views=3, images=4)
ENTRIES = (EntryShapes("logits", ((5,),)), EntryShapes("stages", ((2, 3, 3), (4, 1, 1))))
VALUES = [
    torch.arange(3 * 4 * n).reshape(3, 4, *shape).half()
    for n, shape in ((5, (5,)), (18, (2, 3, 3)), (4, (4, 1, 1)))
]


def fill(folder: Path) -> list[int]:
    """Fill what is missing in a folder; return the views that were written."""
    contents = read_contents(folder, KEY)
    missing = tuple(entry for entry in ENTRIES if entry not in contents.whole)
    if not missing:
        return []
    values = VALUES if ENTRIES[0] in missing else VALUES[1:]
    values = values if ENTRIES[1] in missing else values[:1]
    with CacheWriter(folder, KEY, contents, missing) as writer:
        written = list(range(writer.views_done, 3))
        for view in written:
            for half in (slice(0, 2), slice(2, 4)):
                writer.append([value[view, half] for value in values])
            writer.end_view()
        writer.finish()
    return written


def opened(folder: Path, entry: EntryShapes) -> tuple[torch.Tensor, ...]:
    return open_arrays(folder, entry, views=3, images=4)


def assert_whole(folder: Path) -> None:
    contents = read_contents(folder, KEY)
    assert sorted(contents.whole) == list(ENTRIES)
    assert contents.filling == ()
    arrays = [array for entry in ENTRIES for array in opened(folder, entry)]
    assert all(torch.equal(array, value) for array, value in zip(arrays, VALUES, strict=True))
    assert not list(folder.glob(".*.partial"))


class Killed(BaseException):
    """Nothing catches it."""


def die() -> None:
    raise Killed


def full() -> None:
    raise OSError(28, "No space left on device")


@contextmanager
def faults(count: int, act: Callable[[], None]) -> Iterator[None]:
    fault = FaultAt(count, act)
    undo = plant(fault)
    for name in ("open",):
        original = getattr(os, name)
        setattr(os, name, fault.wrap(original))
        undo.append(lambda name=name, original=original: setattr(os, name, original))  # type: ignore[misc]
    try:
        yield
    finally:
        for step in undo:
            step()


@pytest.mark.parametrize("act", [die, full])
def test_cut_off_at_each_write_the_same_call_ends_whole(tmp_path: Path, act: Callable[[], None]) -> None:
    kinds: set[int] = set()
    for count in range(200):
        folder = tmp_path / str(count)
        folder.mkdir()
        try:
            with faults(count, act):
                fill(folder)
        except (Killed, CheckpointError):
            # Whatever counts as whole is whole, in the middle as well.
            for entry in read_contents(folder, KEY).whole:
                assert len(opened(folder, entry)) == len(entry.shapes)
        else:
            break
        kinds.add(len(fill(folder)))
        assert_whole(folder)
    assert count > 20
    assert {0, 1, 2, 3} >= kinds > {0}


def fill_one_view_and_a_half(folder: Path) -> None:
    with CacheWriter(folder, KEY, empty_contents(), ENTRIES) as writer:
        writer.append([value[0] for value in VALUES])
        writer.end_view()
        writer.append([value[1, :2] + 7 for value in VALUES])


def test_views_that_are_whole_are_not_written_again(tmp_path: Path) -> None:
    fill_one_view_and_a_half(tmp_path)
    assert read_contents(tmp_path, KEY) == empty_contents()._replace(filling=ENTRIES, views_done=1)
    assert fill(tmp_path) == [1, 2]
    assert_whole(tmp_path)


def test_what_is_missing_of_a_part_is_made_from_the_start(tmp_path: Path) -> None:
    fill_one_view_and_a_half(tmp_path)
    (tmp_path / ".stages-1.npy.partial").unlink()
    assert fill(tmp_path) == [0, 1, 2]
    assert_whole(tmp_path)


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        full()

    with CacheWriter(tmp_path, KEY, empty_contents(), ENTRIES) as writer:
        writer.append([value[0] for value in VALUES])
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(
            CheckpointError, match=r"cannot be written \(No space left on device\); free some space"
        ):
            writer.end_view()
