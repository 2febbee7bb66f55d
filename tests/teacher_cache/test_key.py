from pathlib import Path

import pytest

from kdcam.teacher_cache.key import default_folder, first_difference


def test_the_first_difference_is_named_with_both_values() -> None:
    here = {"format": 1, "teacher": {"weights": "a" * 64, "mean": [0.5]}, "views": 4}
    assert first_difference(here, dict(here)) is None
    there = {**here, "teacher": {"weights": "b" * 64, "mean": [0.4]}, "views": 2}
    assert first_difference(there, here) == f'teacher.weights is "{"b" * 11} ... there, "{"a" * 11} ... here'
    assert first_difference({**here, "views": 2}, here) == "views is 2 there, 4 here"
    assert first_difference({}, here) == "format is not set there, 1 here"
    assert first_difference({**here, "more": 1}, here) == "more is 1 there, not set here"


def test_a_keys_folder_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    one, same, other = (default_folder({"views": views, "b": 1}) for views in (4, 4, 2))
    assert one == same != other
    assert one.parent == tmp_path / "kdcam" / "teachers"
    assert default_folder({"b": 1, "views": 4}) == one
