from pathlib import Path

import pytest

from kdcam.files.paths import cache_home, teacher_cache_folder


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
