"""What each reader of `kdcam.files` gives of odd but right files, and how it refuses the others."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdcam.errors import DataError
from kdcam.files.csv_files import by_column, column_names, parse_row, read_csv, shown_columns
from kdcam.files.json_files import parse_json, read_json_value
from kdcam.files.parsed_values import check_values
from kdcam.files.text_files import read_gzip_bounded, read_lines, read_text
from kdcam.files.toml_files import parse_toml
from kdcam.files.yaml_files import read_yaml
from kdcam.settings.messages import short

BOM = b"\xef\xbb\xbf"


def toml(text: str) -> Any:
    return parse_toml(text, error=DataError, place="a.toml")


def json(text: str) -> Any:
    return parse_json(text, error=DataError, place="a.json")


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


def test_a_byte_order_mark_is_read_over(written) -> None:
    assert read_text(written("a", BOM + "ä".encode()), error=DataError) == "ä"
    assert read_json_value(written("a.json", BOM + b"[1]"), error=DataError) == [1]
    assert read_yaml(written("a.yaml", BOM + b"a: b"), error=DataError) == {"a": "b"}
    assert [row.cells for row in read_csv(written("a.csv", BOM + b"a,b\r\n"), error=DataError)] == [
        ["a", "b"]
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_refused_with_the_way_out(written, encoding: str) -> None:
    file = written("a", "image,labels".encode(encoding))
    for read in (read_text, read_json_value, read_yaml, lambda *a, **k: list(read_csv(*a, **k))):
        with pytest.raises(
            DataError, match="is not written in UTF-8 but in UTF-16 or UTF-32; save it as UTF-8"
        ):
            read(file, error=DataError)


def test_what_is_no_text_is_told_with_its_line(written) -> None:
    with pytest.raises(
        DataError, match=r"a, line 3: is not written in UTF-8 \(the byte 0xff: invalid start byte"
    ):
        read_text(written("a", b"x\r\ny\nz\xff"), error=DataError)
    with pytest.raises(DataError, match=r"a, line 2: holds NUL, so it is no text in UTF-8"):
        read_text(written("a", b"xyz and more\ny\0"), error=DataError)


def test_lines_end_as_on_any_system_and_nowhere_else(written) -> None:
    assert read_lines(written("a", "a\r\nb\rc\x0b\u2028\x85d\n\n".encode()), error=DataError) == [
        "a",
        "b",
        "c\x0b\u2028\x85d",
        "",
    ]
    assert read_lines(written("a", b""), error=DataError) == []


def test_no_more_is_read_or_unpacked_than_allowed(written) -> None:
    with pytest.raises(DataError, match=r"a: has more than 1e-05 MB"):
        read_text(written("a", b"x" * 11), error=DataError, limit=10)
    packed = gzip.compress(bytes(100_000_000), mtime=0)
    with pytest.raises(DataError, match=r"a\.csv\.gz: unpacks to more than 0\.1 MB"):
        list(read_csv(written("a.csv.gz", packed), error=DataError, limit=100_000))
    assert read_gzip_bounded(written("b.gz", gzip.compress(b"12345")), limit=5, error=DataError) == b"12345"
    for data in (b"x", packed[:-4], packed[:1000], packed[:20] + b"\xff" * 20):
        with pytest.raises(DataError, match=r"cannot be read \("):
            read_gzip_bounded(written("c.gz", data), limit=10**9, error=DataError)


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
def test_yaml_is_refused_in_one_line_with_the_place(written, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_yaml(written("a.yaml", text.encode()), error=DataError)
    assert "\n" not in str(caught.value)


def test_yaml_is_texts_alone(written) -> None:
    text = "a: 2001-12-14\nb: [yes, ~, 1e3, 0x1f]\nc: !!python/object/apply:os.system [x]\nd: !!timestamp z\n<<: {e: f}"
    assert read_yaml(written("a.yaml", text.encode()), error=DataError) == {
        "a": "2001-12-14",
        "b": ["yes", "~", "1e3", "0x1f"],
        "c": ["x"],
        "d": "z",
        "<<": {"e": "f"},
    }


def test_aliases_of_aliases_are_bounded(written) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(DataError, match=r"holds more than 1,000,000 values"):
        read_yaml(written("a.yaml", "\n".join(lines).encode()), error=DataError)


def test_rows_of_csv_with_the_lines_that_they_begin_on(written) -> None:
    data = b'image, labels\r\n"a\r\nb.jpg", "sea, deep"\r\n\r\n , \r\nc.jpg,"5"" ship"\r\n\r\n'
    rows = list(read_csv(written("a.csv", data), error=DataError))
    assert [(row.line, row.cells) for row in rows] == [
        (1, ["image", "labels"]),
        (2, ["a\r\nb.jpg", "sea, deep"]),
        (6, ["c.jpg", '5" ship']),
    ]
    columns = column_names(rows[0], error=DataError, place="a.csv")
    assert by_column(rows[2], columns, error=DataError, place="a.csv") == {
        "image": "c.jpg",
        "labels": '5" ship',
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'a,b\n1,"2\n3,4\n', r"a\.csv, line 2: is no CSV \(unexpected end of data\); mend the quotes"),
        (b'a,b\n"1"2,3\n', r"a\.csv, line 2: is no CSV \(',' expected after '\"'\)"),
        (
            b"a,b\n" + b"x" * 200_000,
            r"a\.csv, line 2: is no CSV \(field larger than field limit \(131072\)\)",
        ),
    ],
)
def test_csv_is_refused_with_the_line(written, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_csv(written("a.csv", data), error=DataError))


def test_columns_that_do_not_fit(written) -> None:
    header, row = read_csv(written("a.csv", b"a,b, a\n1,2\n"), error=DataError)
    with pytest.raises(DataError, match=r"a, line 1: has the column 'a' more than once"):
        column_names(header, error=DataError, place="a")
    with pytest.raises(
        DataError, match=r"a, line 2: has 2 cells where the first line has 3 columns .*in quotes"
    ):
        by_column(row, ["a", "b", "c"], error=DataError, place="a")
    assert shown_columns(["a", "b"]) == "'a', 'b'"
    assert shown_columns(["a;b"]) == "'a;b', parted by semicolons, where a CSV file has commas"
    assert shown_columns(["a\tb"]).endswith("parted by tabs, where a CSV file has commas")
    assert parse_row(' a, "b, c"', error=DataError, place="x") == ["a", "b, c"]


def test_values_are_shown_short_whatever_they_are() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert short("x" * 100) == "'" + "x" * 59 + "..."
    assert short(10**5_000) == "a int too long to show"
    assert short([0] * 100) == "a list of 100 values"
    assert len(short(endless)) < 70
    assert short(" a") == "' a'"


def test_many_values_are_checked_without_recursion() -> None:
    check_values({"a": [[[{"b": list(range(1000))}]]]}, place="x", error=DataError)
    with pytest.raises(DataError, match="holds more than 100 values"):
        check_values(list(range(100)), place="x", error=DataError, most_values=100)
