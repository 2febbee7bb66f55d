from pathlib import Path

import pytest

from kdcam.errors import DataError
from kdcam.files.paths import exists, is_file, is_folder, read_bounded, shown


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800"])
def test_a_name_that_no_file_system_takes_is_not_there(name: str, tmp_path: Path) -> None:
    assert not exists(tmp_path / name)
    assert not is_file(tmp_path / name)
    assert not is_folder(tmp_path / name)


def test_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("x")
    assert (exists(file), is_file(file), is_folder(file)) == (True, True, False)
    assert (exists(tmp_path), is_file(tmp_path), is_folder(tmp_path)) == (True, False, True)


def test_shown_paths_hold_one_printable_line() -> None:
    assert shown("a\nkdcam: b\u202ec\udcff\x1b[0m") == "a\\nkdcam: b\\u202ec\\udcff\\x1b[0m"


def test_reads_are_bounded(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    assert read_bounded(file, limit=5, error=DataError) == b"12345"
    with pytest.raises(DataError, match=r"has more than 4e-06 MB"):
        read_bounded(file, limit=4, error=DataError)


@pytest.mark.parametrize("name", ["gone", "x" * 300, "a\0b"])
def test_what_cannot_be_read_is_one_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_bounded(tmp_path / name, limit=4, error=DataError)
