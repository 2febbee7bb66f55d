"""Where recipes come from: shipped ones by name, the user's by path; and how ``--set`` changes them."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from kdcam.errors import RecipeError
from kdcam.files.parsed_values import MOST_DEPTH
from kdcam.files.paths import is_file, shown
from kdcam.files.text_files import read_text
from kdcam.files.toml_files import TOML_LIMIT, parse_toml, toml_value
from kdcam.settings.messages import did_you_mean, listed, reason_text, short

_DIGITS = 9  # of an index


def shipped_recipes() -> dict[str, str]:
    """Return the TOML text of every recipe inside the package, by name (folder/file without .toml), sorted."""
    found: dict[str, str] = {}
    folders = [("", resources.files("kdcam.recipes"))]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            if entry.name.endswith(".toml"):
                found[prefix + entry.name.removesuffix(".toml")] = entry.read_text(encoding="utf-8")
            elif entry.is_dir() and not entry.name.startswith("_"):
                folders.append((f"{prefix}{entry.name}/", entry))
    return dict(sorted(found.items()))


def recipe_text(name_or_path: str | Path) -> str:
    """Return the TOML text of a shipped recipe or of a file.

    Raises ``RecipeError`` when it is neither, naming shipped recipes of a close spelling.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml" or is_file(path):
        try:
            return read_text(path, error=RecipeError, place=f"recipe {shown(path)}", limit=TOML_LIMIT)
        except RecipeError as error:
            if isinstance(error.__cause__, OSError):
                reason = reason_text(error.__cause__).lower()
                raise RecipeError(
                    f"recipe {shown(path)}: cannot be read ({reason}); give a TOML file or a name of "
                    "`kdcam recipes list`"
                ) from error
            raise
    shipped = shipped_recipes()
    if str(name_or_path) not in shipped:
        hint = did_you_mean(str(name_or_path), shipped)
        raise RecipeError(
            f"recipe {str(name_or_path)!r}: neither a file nor a shipped recipe{hint}; see `kdcam recipes list`"
        )
    return shipped[str(name_or_path)]


def recipe_stem(name_or_path: str | Path) -> str:
    """Return the short name of a recipe, for the run folder: photos for ~/x/photos.toml and mnist for small/mnist."""
    return Path(name_or_path).name.removesuffix(".toml")


def read_toml(name_or_path: str | Path) -> dict[str, Any]:
    """Return a recipe's table as written.

    Raises ``RecipeError`` when there is no such recipe, or when it is not TOML (with line and column).
    """
    text = recipe_text(name_or_path).replace("\r\n", "\n").replace("\r", "\n")
    return parse_toml(text, error=RecipeError, place=f"recipe {shown(name_or_path)}")


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
    inner: Any = table
    for depth, key in enumerate(keys[:-1]):
        inner = _enter(inner, key, where=".".join(keys[: depth + 1]), override=override)
    if isinstance(inner, list):
        raise RecipeError(
            f"--set {short(override)}: {'.'.join(keys)} is a whole table; name a key in it, as in {path}.weight=1"
        )
    inner[keys[-1]] = toml_value(value.strip(), error=RecipeError, place=f"--set {short(override)}")


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


def _enter(outer: Any, key: str, *, where: str, override: str) -> Any:
    """Return the table that a key names inside a table or a list of named tables; make it where it is absent."""
    if isinstance(outer, list):
        return _named_table(outer, key, where=where, override=override)
    inner = outer.setdefault(key, {})
    is_tables = isinstance(inner, list) and all(isinstance(table, dict) for table in inner)
    if not (isinstance(inner, dict) or is_tables):
        raise RecipeError(f"--set {short(override)}: {where} is the value {short(inner)}, not a table")
    return inner


def _named_table(tables: Sequence[dict[str, Any]], key: str, *, where: str, override: str) -> dict[str, Any]:
    if key.isdecimal() and len(key) <= _DIGITS and int(key) < len(tables):
        return tables[int(key)]
    same = [table for table in tables if table.get("name") == key]
    if len(same) == 1:
        return same[0]
    names = listed(f"{index} ({table.get('name', '?')})" for index, table in enumerate(tables))
    problem = "names several tables; use its index" if same else "names no table of the recipe"
    raise RecipeError(f"--set {short(override)}: {where} {problem}; there are: {names}")


__all__ = [
    "apply_override",
    "data_overrides",
    "parse_value",
    "read_toml",
    "recipe_stem",
    "recipe_text",
    "shipped_recipes",
]
