"""JSON files that any reader takes: written whole or not at all, in UTF-8, without NaN or infinity."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdcam.errors import CheckpointError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.json_files import read_json_value
from kdcam.files.parsed_values import short


def json_form(value: Any) -> Any:
    """Return ``value`` as a JSON file gives it back: tuples as lists, keys as text, NaN and infinity as null.

    Of a text that has no form in UTF-8, as a name whose bytes are none, the escapes (``caf\\udce9``).

    Raises:
        TypeError: Something in it has no JSON form.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {_utf8_text(str(key)): json_form(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [json_form(item) for item in value]
    if isinstance(value, str):
        return _utf8_text(value)
    if value is None or isinstance(value, int):
        return value
    raise TypeError(f"{value!r} of type {type(value).__name__} has no JSON form")


def _utf8_text(text: str) -> str:
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` whole or not at all; NaN and infinity, which JSON lacks, become null.

    Raises:
        CheckpointError: The file cannot be written.
    """
    write_atomically(path, (json.dumps(json_form(value), indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that the JSON file ``path`` holds.

    Raises:
        CheckpointError: The file is missing, cannot be read or does not hold one JSON object.
    """
    value = read_json_value(path, error=CheckpointError)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a JSON {type(value).__name__}, expected an object {{...}}")
    return value


@contextmanager
def layout_errors(file: Path) -> Iterator[None]:
    """Turn what goes wrong with the contents of a file into a ``CheckpointError`` that names it."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: lacks something or has another layout ({_layout_reason(error)}); was it written by "
            "another version "
            "of kdcam? Make it anew, or remove it"
        ) from error


def _layout_reason(error: Exception) -> str:
    from pydantic import ValidationError  # here: the command line's help would wait for it

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {short(str(error), most=200)}"


__all__ = ["json_form", "layout_errors", "read_json", "write_json"]
