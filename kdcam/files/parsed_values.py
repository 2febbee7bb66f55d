"""What a parser may give back: values that can be written again, shown, and walked through without end."""

import math
import re
from collections.abc import Mapping
from typing import Any

from kdcam.errors import KdcamError
from kdcam.settings.messages import short

MOST_DEPTH = 64  # tables and lists inside each other; kdcam's choice
MOST_VALUES = 20_000_000  # of a document, those that YAML's aliases repeat counted again; kdcam's choice
_NAMED = 6  # keys of a path in a message
_LONG_NUMBER = re.compile(r"[0-9][0-9_]{3999}")
_BRACKET = re.compile(r"[\[{\]}]")

_Path = tuple[Any, ...]  # (path of what holds it, its key), from the value up


# Why parsed values are walked through: docs/decisions/024.
def check_values(
    document: Any,
    *,
    place: str,
    error: type[KdcamError],
    bits: int = 128,
    finite: bool = True,
    most_values: int = MOST_VALUES,
) -> None:
    """Raise ``error`` unless a parsed document is of texts, numbers, lists and tables that all of kdcam can handle.

    Refused: more than `MOST_DEPTH` levels, more than ``most_values`` values, whole numbers of more than ``bits`` bits
    with the sign, infinity (``finite``), and texts and keys with NUL in them or with a lone surrogate, which no UTF-8
    file can hold.
    """
    waiting: list[tuple[Any, _Path, int]] = [(document, (), 0)]
    seen = 0
    while waiting:
        value, path, depth = waiting.pop()
        seen += 1
        if seen > most_values:
            raise error(f"{place}: holds more than {most_values:,} values, the most that are read")
        if isinstance(value, str):
            _check_text(value, path, place, error)
        elif isinstance(value, int):
            if value.bit_length() >= bits and value != -(1 << (bits - 1)):
                raise error(
                    f"{place}: {_named(path)} is a whole number of more than {bits} bits; write a smaller one"
                )
        elif isinstance(value, float):
            if finite and not math.isfinite(value):
                raise error(f"{place}: {_named(path)} is too large a number; write a finite one")
        elif isinstance(value, Mapping | list):
            if depth == MOST_DEPTH:
                raise error(
                    f"{place}: {_named(path)} nests more than {MOST_DEPTH} levels deep; restore the file"
                )
            # The last first: what is put last is looked at next.
            for key, item in reversed([*(value.items() if isinstance(value, Mapping) else enumerate(value))]):
                if isinstance(key, str):
                    _check_text(key, path, place, error)
                waiting.append((item, (path, key), depth + 1))


def long_number_place(text: str) -> str:
    """Return ``, line 3, column 8`` for the first number of a text that has more digits than Python reads."""
    found = _LONG_NUMBER.search(text)
    return _place(text, found.start()) if found else ""


def deep_bracket_place(text: str) -> str:
    """Return ``, line 3, column 8`` for the first bracket of a text that is more than `MOST_DEPTH` deep."""
    depth = 0
    for bracket in _BRACKET.finditer(text):
        depth = depth + 1 if bracket[0] in "[{" else max(0, depth - 1)
        if depth > MOST_DEPTH:
            return _place(text, bracket.start())
    return ""


def _place(text: str, position: int) -> str:
    line_start = text.rfind("\n", 0, position) + 1
    return f", line {text.count(chr(10), 0, position) + 1}, column {position - line_start + 1}"


def _check_text(text: str, path: _Path, place: str, error: type[KdcamError]) -> None:
    if "\0" in text:
        raise error(f"{place}: {_named(path)} has NUL in {short(text)}; write another text")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise error(
            f"{place}: {_named(path)} has a lone surrogate in {short(text)} (bytes that are no UTF-8?); "
            "write another text or name"
        ) from None


def _named(path: _Path) -> str:
    """Return ``loss[1].weight`` for the path of a value."""
    keys: list[Any] = []
    while path:
        path, key = path
        keys.append(key)
    name = ""
    for key in keys[: -_NAMED - 1 : -1]:
        if isinstance(key, int):
            name += f"[{key}]"
        else:
            name += f".{short(key)[1:-1]}" if name else short(key)[1:-1]
    return (name or "it") + " ..." * (len(keys) > _NAMED)


__all__ = [
    "MOST_DEPTH",
    "MOST_VALUES",
    "check_values",
    "deep_bracket_place",
    "long_number_place",
]
