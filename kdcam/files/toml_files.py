"""TOML, in which recipes are written: read with line and column where it is wrong, and nothing odd let through."""

import tomllib
from typing import Any

from kdcam.errors import KdcamError
from kdcam.files.parsed_values import check_values, deep_bracket_place, long_number_place

TOML_LIMIT = 10**6  # bytes of a file; kdcam's choice
_BITS = 64  # of a whole number, as TOML has it


def parse_toml(text: str, *, error: type[KdcamError], place: str) -> dict[str, Any]:
    """Return the table that a TOML text holds.

    Raises:
        KdcamError: of the type ``error``: the text is no TOML, or a value is one that `check_values` refuses.
    """
    try:
        return _parsed(text, error=error, place=place)
    except tomllib.TOMLDecodeError as problem:
        raise error(f"{place}: not valid TOML: {problem}") from problem


def toml_value(text: str, *, error: type[KdcamError], place: str) -> Any:
    """Return the value that TOML reads in a text, else the text itself; see `parse_toml`."""
    try:
        return _parsed(f"value = {text}", error=error, place=place)["value"]
    except tomllib.TOMLDecodeError:
        check_values(text, error=error, place=place)
        return text


def _parsed(text: str, *, error: type[KdcamError], place: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # int's, of a number of more than some 4,000 digits
        where = long_number_place(text)
        raise error(
            f"{place}{where}: not valid TOML: a number of thousands of digits; write a smaller one"
        ) from None
    except RecursionError:
        where = deep_bracket_place(text)
        raise error(
            f"{place}{where}: not valid TOML: hundreds of nested brackets; restore the file"
        ) from None
    check_values(table, error=error, place=place, bits=_BITS, finite=False)
    return table


__all__ = ["TOML_LIMIT", "parse_toml", "toml_value"]
