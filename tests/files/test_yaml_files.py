from collections.abc import Callable
from pathlib import Path

import pytest

from kdcam.errors import DataError
from kdcam.files.yaml_files import read_yaml


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [b", r"a\.yaml, line 1: is no YAML"),
        ("a: b\na: c", r"a\.yaml, line 1: is no YAML \(a key stands twice in one table\)"),
        ("? [a]\n: b", r"is no YAML \(found unhashable key\)"),
        ('a: "\\UFFFFFFFF"', r"is no YAML \(an escape in it is no character\)"),
        ('a: "\\ud800"', r"a\.yaml: a has a lone surrogate"),
        (
            "[" * 100_000,
            r"a\.yaml, line 1, column 65: is no YAML that is read \(hundreds of nested brackets\)",
        ),
        ("a: &a [*a]", r"is no YAML \(found unconstructable recursive node\)"),
        ("a: *b", r"a\.yaml, line 1: is no YAML \(found undefined alias 'b'\)"),
        ("a: b\n---\nc: d", "is no YAML"),
        ("a: \x07", "is no YAML"),
    ],
)
def test_yaml_is_refused_in_one_line_with_the_place(
    written: Callable[[str, bytes], Path], text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_yaml(written("a.yaml", text.encode()), error=DataError)
    assert "\n" not in str(caught.value)


def test_yaml_is_texts_alone(written: Callable[[str, bytes], Path]) -> None:
    text = "a: 2001-12-14\nb: [yes, ~, 1e3, 0x1f]\nc: !!python/object/apply:os.system [x]\nd: !!timestamp z\n<<: {e: f}"
    assert read_yaml(written("a.yaml", text.encode()), error=DataError) == {
        "a": "2001-12-14",
        "b": ["yes", "~", "1e3", "0x1f"],
        "c": ["x"],
        "d": "z",
        "<<": {"e": "f"},
    }


def test_aliases_of_aliases_are_bounded(written: Callable[[str, bytes], Path]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(DataError, match=r"holds more than 1,000,000 values"):
        read_yaml(written("a.yaml", "\n".join(lines).encode()), error=DataError)
