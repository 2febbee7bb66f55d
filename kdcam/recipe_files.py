"""Where recipes come from: shipped ones by name, the user's by path."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from kdcam.errors import RecipeError
from kdcam.wording import did_you_mean


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
    if path.suffix == ".toml" or path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(
                f"recipe {path}: cannot be read ({reason(error)}); give a TOML file or a name of "
                "`kdcam recipes list`"
            ) from error
    shipped = shipped_recipes()
    if str(name_or_path) not in shipped:
        hint = did_you_mean(str(name_or_path), shipped)
        raise RecipeError(
            f"recipe {str(name_or_path)!r}: neither a file nor a shipped recipe{hint}; see `kdcam recipes list`"
        )
    return shipped[str(name_or_path)]


def reason(error: OSError | UnicodeDecodeError) -> str:
    """Return the reason of a failed read, without the path that the caller names anyway."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else "it is not UTF-8 text"


def recipe_stem(name_or_path: str | Path) -> str:
    """Return the short name of a recipe, for the run folder: photos for ~/x/photos.toml and mnist for small/mnist."""
    return Path(name_or_path).name.removesuffix(".toml")


def read_toml(name_or_path: str | Path) -> dict[str, Any]:
    """Return a recipe's table as written.

    Raises ``RecipeError`` when there is no such recipe, or when it is not TOML (with line and column).
    """
    try:
        return tomllib.loads(recipe_text(name_or_path))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"recipe {name_or_path}: not valid TOML: {error}") from error


__all__ = ["read_toml", "reason", "recipe_stem", "recipe_text", "shipped_recipes"]
