"""JSON, from files of users and of kdcam: read with line and column where it is wrong, and nothing odd let through."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from kdcam.errors import KdcamError
from kdcam.files.parsed_values import check_values, deep_bracket_place, long_number_place, short
from kdcam.files.text_files import TEXT_LIMIT, decode_text, read_text

_WAY_OUT = "restore it or remove it"


def read_json_value(
    path: Path,
    *,
    error: type[KdcamError],
    place: str | None = None,
    way_out: str = _WAY_OUT,
    limit: int = TEXT_LIMIT,
) -> Any:
    """Return the value that a JSON file holds; see `parse_json` and `kdcam.files.text_files.read_text`."""
    text = read_text(path, error=error, place=place, limit=limit)
    return parse_json(text, error=error, place=place or str(path), way_out=way_out)


def parse_json(
    text: str | bytes,
    *,
    error: type[KdcamError],
    place: str,
    line: int | None = None,
    way_out: str = _WAY_OUT,
) -> Any:
    """Return the value of a JSON text.

    Args:
        text: The text; bytes are read as UTF-8.
        error: What is raised.
        place: How the message begins.
        line: The number of the line in its file, where the text is one of several.
        way_out: How it ends.

    Raises:
        KdcamError: of the type ``error``: it is no JSON (NaN and Infinity are none), a key stands twice in one object,
            or a value is one that `check_values` refuses.
    """
    file, place = place, place if line is None else f"{place}, line {line}"
    if isinstance(text, bytes):
        text = decode_text(text, error=error, place=place)

    def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):  # json itself would keep the last one
            repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise error(f"{place}: {short(repeated)} stands twice in one object; keep one")
        return found

    def no_constant(name: str) -> NoReturn:
        raise error(f"{place}: holds {name}, which JSON lacks; write a number or null")

    try:
        value = json.loads(text, object_pairs_hook=without_repeats, parse_constant=no_constant)
    except json.JSONDecodeError as problem:
        raise error(
            f"{file}, line {line or problem.lineno}: is no JSON ({problem.msg} at column {problem.colno}); {way_out}"
        ) from problem
    except ValueError:  # int's, of a number of more than some 4,000 digits
        where = long_number_place(text) if line is None else ""
        raise error(
            f"{place}{where}: is no JSON that is read (a number of thousands of digits); {way_out}"
        ) from None
    except RecursionError:
        where = deep_bracket_place(text) if line is None else ""
        raise error(
            f"{place}{where}: is no JSON that is read (thousands of nested brackets); {way_out}"
        ) from None
    check_values(value, place=place, error=error)
    return value


__all__ = ["parse_json", "read_json_value"]
