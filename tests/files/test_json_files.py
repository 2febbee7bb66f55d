from pathlib import Path
from typing import Any

import pytest

from kdcam.errors import CheckpointError, DataError
from kdcam.files.json_files import (
    Difference,
    first_difference,
    json_form,
    parse_json,
    read_json,
    value_text,
    write_json,
)


def json(text: str) -> Any:
    return parse_json(text, error=DataError, place="a.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"a": 1,\n "b" 2}',
            r"a\.json, line 2: is no JSON \(Expecting ':' delimiter at column 6\); restore it",
        ),
        ('{"a": 1, "b": 2, "a": 3}', r"a\.json: 'a' stands twice in one object; keep one"),
        ('{"a": NaN}', "holds NaN, which JSON lacks; write a number or null"),
        ("[-Infinity]", "holds -Infinity, which JSON lacks"),
        ('{"a": [1e999]}', r"a\[0\] is too large a number"),
        ('{"a": ["\\ud800"]}', r"a\[0\] has a lone surrogate in '\\ud800'"),
        ('{"a": {"\\udfff": 1}}', r"a has a lone surrogate in '\\udfff'"),
        ('["\\u0000"]', r"\[0\] has NUL in"),
        (
            "[\n" + "1" * 5_000 + "]",
            r"a\.json, line 2, column 1: is no JSON that is read \(a number of thousands",
        ),
        (
            "[" * 100_000,
            r"a\.json, line 1, column 65: is no JSON that is read \(thousands of nested brackets",
        ),
        (str(2**127), "it is a whole number of more than 128 bits"),
        ("", r"a\.json, line 1: is no JSON"),
    ],
)
def test_json_is_refused_in_one_line_with_the_place(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        json(text)
    assert "\n" not in str(caught.value)


def test_pairs_of_surrogates_are_characters() -> None:
    assert json('"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


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


@pytest.mark.parametrize(
    ("there", "here", "difference"),
    [
        ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}}, Difference("b.c", 2, 3)),
        ({"b": [1, {"c": 2}]}, {"b": [1, {"c": 3}]}, Difference("b[1].c", 2, 3)),
        ({"b": [1, 2]}, {"b": [1]}, Difference("b", [1, 2], [1])),
        ({"a": 1}, {}, Difference("a", 1, None)),
        ({}, {"a": 1}, Difference("a", None, 1)),
        ({"b": 1, "a": 2}, {"a": 3, "b": 4}, Difference("b", 1, 4)),
        (3, {"a": 1}, Difference("", 3, {"a": 1})),
    ],
)
def test_the_first_difference_has_its_place_and_both_values(
    there: object, here: object, difference: Difference
) -> None:
    assert first_difference(there, here) == difference
    assert first_difference(there, there) is None


def test_values_in_words() -> None:
    assert (value_text(None), value_text("ä"), value_text([1])) == ("not set", '"ä"', "[1]")
