"""``--set key.sub=value``: changes to a recipe's table before it is checked."""

from collections.abc import Sequence
from typing import Any

from kdcam.errors import RecipeError
from kdcam.files.parsed_values import MOST_DEPTH, short
from kdcam.files.toml_files import toml_value
from kdcam.settings.messages import listed

_DIGITS = 9  # of an index


def parse_value(text: str) -> Any:
    """Return the value that TOML reads in a text, else the text itself; ``RecipeError`` as `toml_value` says."""
    return toml_value(text, error=RecipeError, place=f"--set with the value {short(text)}")


def apply_override(table: dict[str, Any], override: str) -> None:
    """Change one key of a recipe's table in place: ``optimizer.lr=0.01``, ``loss.kd.weight=3``, ``loss.1.start=0.5``.

    Raises ``RecipeError`` when the text is no assignment or its path leads nowhere.
    """
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise RecipeError(
            f"--set {short(override)}: must read key=value or table.key=value, as in --set optimizer.lr=0.01"
        )
    if len(keys) > MOST_DEPTH:
        raise RecipeError(f"--set {short(override)}: names {len(keys)} keys, more than {MOST_DEPTH}")
    place: Any = table
    for depth, key in enumerate(keys[:-1]):
        place = _enter(place, key, where=".".join(keys[: depth + 1]), override=override)
    if isinstance(place, list):
        raise RecipeError(
            f"--set {short(override)}: {'.'.join(keys)} is a whole table; name a key in it, as in {path}.weight=1"
        )
    place[keys[-1]] = toml_value(value.strip(), error=RecipeError, place=f"--set {short(override)}")


def data_overrides(sets: Sequence[str]) -> dict[str, Any]:
    """Return the keys of [data] that ``--set data.root=DIR`` and its like name, for a run that is read again.

    Raises ``RecipeError`` for a text that is no assignment, or changes another table.
    """
    table: dict[str, Any] = {}
    for one in sets:
        apply_override(table, one)
    others = [key for key, value in table.items() if key != "data" or not isinstance(value, dict)]
    if others:
        raise RecipeError(
            f"--set {others[0]}: a run is as it was trained; allowed: keys of data that say where its files lie now, "
            "as in --set data.root=DIR"
        )
    return {key: str(value) if key != "workers" else value for key, value in table.get("data", {}).items()}


def _enter(place: Any, key: str, *, where: str, override: str) -> Any:
    """Return the table that a key names inside a table or a list of named tables; make it where it is absent."""
    if isinstance(place, list):
        return _named(place, key, where=where, override=override)
    inner = place.setdefault(key, {})
    is_tables = isinstance(inner, list) and all(isinstance(table, dict) for table in inner)
    if not (isinstance(inner, dict) or is_tables):
        raise RecipeError(f"--set {short(override)}: {where} is the value {short(inner)}, not a table")
    return inner


def _named(tables: Sequence[dict[str, Any]], key: str, *, where: str, override: str) -> dict[str, Any]:
    if key.isdecimal() and len(key) <= _DIGITS and int(key) < len(tables):
        return tables[int(key)]
    same = [table for table in tables if table.get("name") == key]
    if len(same) == 1:
        return same[0]
    names = listed(f"{index} ({table.get('name', '?')})" for index, table in enumerate(tables))
    problem = "names several tables; use its index" if same else "names no table of the recipe"
    raise RecipeError(f"--set {short(override)}: {where} {problem}; there are: {names}")


__all__ = ["apply_override", "data_overrides", "parse_value"]
