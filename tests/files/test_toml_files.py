from typing import Any

import pytest

from kdcam.errors import DataError
from kdcam.files.toml_files import parse_toml


def toml(text: str) -> Any:
    return parse_toml(text, error=DataError, place="a.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", r"a\.toml: not valid TOML: Invalid value \(at end of document\)"),
        ("a = 1\na = 2\n", r"a\.toml: not valid TOML: Cannot overwrite a value \(at line 2"),
        (
            "a = 1\nb = " + "9" * 5_000,
            r"a\.toml, line 2, column 5: not valid TOML: a number of thousands of digits",
        ),
        ("a = " + "[" * 100_000, r"a\.toml, line 1, column 69: not valid TOML: hundreds of nested brackets"),
        (
            "[t]\na = " + "[" * 64 + "]" * 64,
            r"a\.toml: t\.a\[0\]\[0\]\[0\]\[0\] \.\.\. nests more than 64 levels",
        ),
        ("[[loss]]\nw = 9223372036854775808", r"loss\[0\]\.w is a whole number of more than 64 bits"),
        ('a = "x\\u0000"', r"a\.toml: a has NUL in 'x\\x00'"),
    ],
)
def test_toml_is_refused_in_one_line_with_the_place(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        toml(text)
    assert "\n" not in str(caught.value)


def test_all_of_toml_is_read() -> None:
    assert toml("a = -9223372036854775808\nb = inf\nc = 0x7f") == {"a": -(2**63), "b": float("inf"), "c": 127}
