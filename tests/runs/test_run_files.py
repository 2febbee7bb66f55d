import errno
import os
from pathlib import Path

import pytest

from kdcam.errors import CheckpointError
from kdcam.runs.run_files import append_metrics, cut_metrics, read_metrics


def _epochs(folder: Path) -> list[int]:
    return [record["epoch"] for record in read_metrics(folder)]


def _fill(folder: Path, epochs: int) -> None:
    for epoch in range(1, epochs + 1):
        append_metrics(folder, {"epoch": epoch, "train": {"kd": epoch / 3}})


def test_lines_come_back_in_order(tmp_path: Path) -> None:
    _fill(tmp_path, 3)
    assert read_metrics(tmp_path) == [{"epoch": epoch, "train": {"kd": epoch / 3}} for epoch in (1, 2, 3)]


def test_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"epoch": 1, "val": float("nan")})
    assert read_metrics(tmp_path) == [{"epoch": 1, "val": None}]


@pytest.mark.parametrize(("last", "left"), [(0, []), (2, [1, 2]), (9, [1, 2, 3])])
def test_cut_keeps_the_lines_up_to_an_epoch(tmp_path: Path, last: int, left: list[int]) -> None:
    _fill(tmp_path, 3)
    cut_metrics(tmp_path, last)
    assert _epochs(tmp_path) == left


def test_torn_last_line_is_ignored_and_cut_away(tmp_path: Path) -> None:
    _fill(tmp_path, 2)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"epoch": 3, "tr')
    assert _epochs(tmp_path) == [1, 2]
    cut_metrics(tmp_path, 2)
    append_metrics(tmp_path, {"epoch": 3})
    assert _epochs(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize("line", ["{", "[1]", "{}", '{"epoch": "1"}'])
def test_broken_line_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n' + line + '\n{"epoch": 2}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl, line 2: "):
        read_metrics(tmp_path)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_full_disk_leaves_the_lines_before_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    _fill(tmp_path, 2)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    real = os.write

    def half_then_full(descriptor: int, data: bytes = b"") -> int:
        if len(data) > 10:
            return real(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, half_then_full)
    with pytest.raises(CheckpointError, match=r"a line could not be added \(No space left on device\)"):
        append_metrics(tmp_path, {"epoch": 3, "more": "x" * 10})
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
