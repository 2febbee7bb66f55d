import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from kdcam.errors import DataError
from kdcam.files.csv_files import read_csv
from kdcam.files.json_files import read_json_value
from kdcam.files.text_files import read_gzip_bounded, read_lines, read_text
from kdcam.files.yaml_files import read_yaml

BOM = b"\xef\xbb\xbf"


def test_a_byte_order_mark_is_read_over(written: Callable[[str, bytes], Path]) -> None:
    assert read_text(written("a", BOM + "ä".encode()), error=DataError) == "ä"
    assert read_json_value(written("a.json", BOM + b"[1]"), error=DataError) == [1]
    assert read_yaml(written("a.yaml", BOM + b"a: b"), error=DataError) == {"a": "b"}
    assert [row.cells for row in read_csv(written("a.csv", BOM + b"a,b\r\n"), error=DataError)] == [
        ["a", "b"]
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_is_refused_with_the_way_out(
    written: Callable[[str, bytes], Path], encoding: str
) -> None:
    file = written("a", "image,labels".encode(encoding))
    for read in (read_text, read_json_value, read_yaml, lambda *a, **k: list(read_csv(*a, **k))):
        with pytest.raises(
            DataError, match="is not written in UTF-8 but in UTF-16 or UTF-32; save it as UTF-8"
        ):
            read(file, error=DataError)


def test_what_is_no_text_is_told_with_its_line(written: Callable[[str, bytes], Path]) -> None:
    with pytest.raises(
        DataError, match=r"a, line 3: is not written in UTF-8 \(the byte 0xff: invalid start byte"
    ):
        read_text(written("a", b"x\r\ny\nz\xff"), error=DataError)
    with pytest.raises(DataError, match=r"a, line 2: holds NUL, so it is no text in UTF-8"):
        read_text(written("a", b"xyz and more\ny\0"), error=DataError)


def test_lines_end_as_on_any_system_and_nowhere_else(written: Callable[[str, bytes], Path]) -> None:
    assert read_lines(written("a", "a\r\nb\rc\x0b\u2028\x85d\n\n".encode()), error=DataError) == [
        "a",
        "b",
        "c\x0b\u2028\x85d",
        "",
    ]
    assert read_lines(written("a", b""), error=DataError) == []


def test_no_more_is_read_or_unpacked_than_allowed(written: Callable[[str, bytes], Path]) -> None:
    with pytest.raises(DataError, match=r"a: has more than 1e-05 MB"):
        read_text(written("a", b"x" * 11), error=DataError, limit=10)
    packed = gzip.compress(bytes(100_000_000), mtime=0)
    with pytest.raises(DataError, match=r"a\.csv\.gz: unpacks to more than 0\.1 MB"):
        list(read_csv(written("a.csv.gz", packed), error=DataError, limit=100_000))
    assert read_gzip_bounded(written("b.gz", gzip.compress(b"12345")), limit=5, error=DataError) == b"12345"
    for data in (b"x", packed[:-4], packed[:1000], packed[:20] + b"\xff" * 20):
        with pytest.raises(DataError, match=r"cannot be read \("):
            read_gzip_bounded(written("c.gz", data), limit=10**9, error=DataError)
