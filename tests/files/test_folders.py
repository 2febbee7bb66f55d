from pathlib import Path

import pytest

from kdcam.errors import CheckpointError
from kdcam.files.paths import teacher_cache_folder
from kdcam.training.teachers.cache_folder import cache_folder_errors


def test_a_given_folder_is_written_out_and_others_lie_below_kdcams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert teacher_cache_folder(Path("~/kept"), "abc") == tmp_path / "me" / "kept"
    assert teacher_cache_folder(None, "abc") == tmp_path / "kdcam" / "teachers" / "abc"
    assert teacher_cache_folder(None) == tmp_path / "kdcam" / "teachers"


def test_only_what_the_system_refuses_is_told_anew() -> None:
    with pytest.raises(CheckpointError, match=r"^another sentence$"), cache_folder_errors("x", "y"):
        raise CheckpointError("another sentence")
    with (
        pytest.raises(CheckpointError, match=r"^teacher.cache_folder: x \(full\); y$"),
        cache_folder_errors("x", "y"),
    ):
        raise OSError(28, "full")
