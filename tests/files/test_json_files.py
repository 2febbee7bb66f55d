from pathlib import Path

import pytest

from kdcam.errors import CheckpointError
from kdcam.files.json_files import json_form, read_json, write_json


def test_round_trip_keeps_order_text_and_exact_numbers(tmp_path: Path) -> None:
    value = {"b": [0.1, 1 / 3, 5e-324, -0.0], "a": {"名": "Käfer", "n": None, "yes": True, "big": 2**70}}
    write_json(tmp_path / "file.json", value)
    found = read_json(tmp_path / "file.json")
    assert found == value
    assert list(found) == ["b", "a"]


def test_plain_is_what_the_file_gives_back() -> None:
    assert json_form({1: (1, 2), "x": float("nan"), "y": [float("-inf")]}) == {
        "1": [1, 2],
        "x": None,
        "y": [None],
    }


def test_value_without_json_form_is_a_programmers_error() -> None:
    with pytest.raises(TypeError, match="has no JSON form"):
        json_form({"path": Path("x")})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no JSON"),
        (b"\xff", "is not written in UTF-8"),
        (b"[]", r"holds a JSON list, expected an object"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"file\.json(, line 1)?: {message}"):
        read_json(tmp_path / "file.json")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"file\.json: cannot be read \(No such file"):
        read_json(tmp_path / "file.json")
