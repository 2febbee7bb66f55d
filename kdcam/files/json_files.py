"""JSON files: read with line and column where they are wrong, written whole or not at all, compared."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from kdcam.errors import CheckpointError, KdcamError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.parsed_values import check_values, deep_bracket_place, long_number_place
from kdcam.files.text_files import TEXT_LIMIT, decode_text, read_text
from kdcam.settings.messages import short

_WAY_OUT = "restore it or remove it"


def read_json(path: Path) -> dict[str, Any]:
    """Return the object that the JSON file ``path`` holds.

    Raises:
        CheckpointError: The file is missing, cannot be read or does not hold one JSON object.
    """
    value = read_json_value(path, error=CheckpointError)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds a JSON {type(value).__name__}, expected an object {{...}}")
    return value


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


@contextmanager
def layout_errors(file: Path) -> Iterator[None]:
    """Turn what goes wrong with the contents of a file into a ``CheckpointError`` that names it."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file}: lacks something or has another layout ({_layout_reason(error)}); was it written by "
            "another version of kdcam? Make it anew, or remove it"
        ) from error


def _layout_reason(error: Exception) -> str:
    from pydantic import ValidationError  # here: the command line's help would wait for it

    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {short(str(error), most=200)}"


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` whole or not at all; NaN and infinity, which JSON lacks, become null.

    Raises:
        CheckpointError: The file cannot be written.
    """
    write_atomically(path, (json.dumps(json_form(value), indent=2, ensure_ascii=False) + "\n").encode())


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


class Difference(NamedTuple):
    """The first place where two values differ; None: not set."""

    place: str  # optimizer.lr, loss[0].name; empty where the whole values differ
    there: Any
    here: Any


def first_difference(there: Any, here: Any, place: str = "") -> Difference | None:
    """Return where two JSON values first differ, in the order of ``there``; None where they are equal.

    Lists of one length are compared item by item, others as wholes.
    """
    pairs: list[tuple[str, Any, Any]]
    if isinstance(there, dict) and isinstance(here, dict):
        prefix = f"{place}." if place else ""
        pairs = [(prefix + name, there.get(name), here.get(name)) for name in {**there, **here}]
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        pairs = [(f"{place}[{index}]", there[index], here[index]) for index in range(len(here))]
    else:
        return None if there == here else Difference(place, there, here)
    differences = (first_difference(old, new, name) for name, old, new in pairs)
    return next((difference for difference in differences if difference is not None), None)


def value_text(value: Any) -> str:
    """Return one side of a difference in words."""
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


__all__ = [
    "Difference",
    "first_difference",
    "json_form",
    "layout_errors",
    "parse_json",
    "read_json",
    "read_json_value",
    "value_text",
    "write_json",
]
