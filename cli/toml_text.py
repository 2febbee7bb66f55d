"""A recipe's table as TOML text, for people to read and keep (the standard library only reads TOML)."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml_text(table: Mapping[str, Any]) -> str:
    """Return a table as TOML, ``name`` first in each table, without the keys that are None."""
    return "\n".join(_toml_lines(table, "")).strip("\n") + "\n"


def _toml_lines(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield plain values first: in TOML they would belong to the table before them otherwise."""
    named = {"name": table["name"], **table} if "name" in table else table
    present = {key: value for key, value in named.items() if value is not None}
    for key, value in present.items():
        if not _is_table(value) and not _is_tables(value):
            yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in present.items():
        path = prefix + _toml_key(key)
        if _is_table(value):
            yield from ("", f"[{path}]", *_toml_lines(value, path + "."))
        elif _is_tables(value):
            for item in value:
                yield from ("", f"[[{path}]]", *_toml_lines(item, path + "."))


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return _is_list(value) and len(value) > 0 and all(_is_table(item) for item in value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _toml_value(value: Any) -> str:
    if _is_list(value):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    # JSON's texts, numbers and booleans are TOML's too, but for one character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


__all__ = ["toml_text"]
