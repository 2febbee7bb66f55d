from typing import Any

import pytest

from kdcam.errors import DataError
from kdcam.files.json_files import parse_json


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
