from pathlib import Path

import pytest

from kdcam.errors import DataError
from kdcam.files.paths import (
    cache_home,
    exists,
    expanded,
    is_file,
    is_folder,
    path_below,
    read_bounded,
    resolved,
    shown,
    teacher_cache_folder,
)


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


def test_a_home_that_is_not_there_leads_nowhere() -> None:
    assert expanded("~/x") == Path.home() / "x"
    assert expanded("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
    assert not exists(expanded("~nobody-of-that-name"))


@pytest.mark.parametrize("name", ["gone", "x" * 300, "a\0b", "circle"])
def test_any_path_is_resolved(name: str, tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert resolved(tmp_path / name) == tmp_path / name


def test_names_lead_below_their_folder_or_nowhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "root-2"
    for folder in (root / "a", outside):
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
    (root / "in").symlink_to(root / "a")
    (root / "out").symlink_to(outside)
    (root / "out.png").symlink_to(outside / "x.png")
    inside = {
        "a/x.png": "a/x.png",
        "./a//x.png": "a/x.png",
        "b/../a/x.png": "a/x.png",
        "in/x.png": "in/x.png",
    }
    for name, path in (
        *inside.items(),
        (str(root / "a/x.png"), "a/x.png"),
        ("gone/y", "gone/y"),
        ("", ""),
        ("out.png", "out.png"),
        ("out/x.png", "out/x.png"),
    ):
        assert path_below(root, name) == root / path
    for name in ("../x", "a/../../root-2/x.png", str(outside / "x.png"), "/"):
        assert path_below(root, name) is None


def test_names_below_a_folder_that_is_a_link_or_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert path_below(tmp_path / "link", "x") == tmp_path / "link" / "x"
    monkeypatch.chdir(tmp_path)
    assert path_below(Path("real"), "x") == Path("real/x")
    assert path_below(Path(), "../x") is None


def test_it_lies_where_the_system_keeps_caches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_home() == tmp_path / "caches" / "kdcam"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_home() == tmp_path / ".cache" / "kdcam"


def test_a_given_folder_is_written_out_and_others_lie_below_kdcams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert teacher_cache_folder(Path("~/kept"), "abc") == tmp_path / "me" / "kept"
    assert teacher_cache_folder(None, "abc") == tmp_path / "kdcam" / "teachers" / "abc"
    assert teacher_cache_folder(None) == tmp_path / "kdcam" / "teachers"
