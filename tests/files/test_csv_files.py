from collections.abc import Callable
from pathlib import Path

import pytest

from kdcam.errors import DataError
from kdcam.files.csv_files import by_column, column_names, parse_row, read_csv, shown_columns


def test_rows_of_csv_with_the_lines_that_they_begin_on(written: Callable[[str, bytes], Path]) -> None:
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
def test_csv_is_refused_with_the_line(
    written: Callable[[str, bytes], Path], data: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        list(read_csv(written("a.csv", data), error=DataError))


def test_columns_that_do_not_fit(written: Callable[[str, bytes], Path]) -> None:
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
