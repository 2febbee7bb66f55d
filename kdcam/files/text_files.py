"""Text files: UTF-8, with a byte order mark or without one, plain or gzipped, of a bounded size."""

import gzip
import re
import zlib
from pathlib import Path

from kdcam.errors import KdcamError
from kdcam.files.paths import read_bounded, shown
from kdcam.settings.messages import reason_text

TEXT_LIMIT = 500 * 10**6  # bytes of a text file, a gzipped one's when unpacked; kdcam's choice
_LINE_END = re.compile(r"\r\n|\r|\n")
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")  # of UTF-16 and UTF-32


def read_text(
    path: Path, *, error: type[KdcamError], place: str | None = None, limit: int = TEXT_LIMIT
) -> str:
    """Return the text of a file, line ends as they are; of one whose name ends in .gz, the text inside.

    Args:
        path: The file.
        error: What is raised.
        place: How the message begins; the path unless given.
        limit: Bytes that it may have, unpacked.

    Raises:
        KdcamError: of the type ``error``: the file is missing, cannot be read, is too large, or is no UTF-8 text.
    """
    where = place or shown(path)
    read = read_gzip_bounded if path.suffix.lower() == ".gz" else read_bounded
    return decode_text(read(path, limit=limit, error=error, place=where), error=error, place=where)


def read_lines(
    path: Path, *, error: type[KdcamError], place: str | None = None, limit: int = TEXT_LIMIT
) -> list[str]:
    """Return the lines of a text file without their ends; see `read_text`."""
    return split_lines(read_text(path, error=error, place=place, limit=limit))


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, parted by the line ends of any system and by nothing else."""
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def read_gzip_bounded(path: Path, *, limit: int, error: type[KdcamError], place: str | None = None) -> bytes:
    """Return the bytes inside a gzipped file, of which there may be ``limit`` at most; see `read_bounded`.

    No more than that is unpacked, whatever the size of the file itself.
    """
    where = place or shown(path)
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, EOFError, ValueError, zlib.error) as problem:
        raise error(f"{where}: cannot be read ({reason_text(problem)})") from problem
    if len(data) > limit:
        raise error(f"{where}: unpacks to more than {limit / 1e6:g} MB, the most that is read of such a file")
    return data


def decode_text(data: bytes, *, error: type[KdcamError], place: str) -> str:
    """Return bytes of a text file as text, without a byte order mark.

    Raises:
        KdcamError: of the type ``error``: they are not UTF-8, or NUL is among them.
    """
    if data.startswith(_WIDE_MARKS) or data[:4].count(0) == 2:
        raise error(f"{place}: is not written in UTF-8 but in UTF-16 or UTF-32; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(
            f"{place}, line {_line(data, problem.start)}: is not written in UTF-8 (the byte "
            f"0x{data[problem.start]:02x}: {problem.reason}); save it as UTF-8"
        ) from None
    if "\0" in text:
        raise error(
            f"{place}, line {_line(data, data.index(0))}: holds NUL, so it is no text in UTF-8; restore it"
        )
    return text


def _line(data: bytes, position: int) -> int:
    return len(re.findall(rb"\r\n|\r|\n", data[:position])) + 1


__all__ = ["TEXT_LIMIT", "decode_text", "read_gzip_bounded", "read_lines", "read_text", "split_lines"]
