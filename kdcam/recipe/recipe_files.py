"""Where recipes come from: shipped ones by name, the user's by path."""

from importlib import resources
from pathlib import Path
from typing import Any

from kdcam.errors import RecipeError
from kdcam.files.paths import is_file, shown
from kdcam.files.text_files import read_text
from kdcam.files.toml_files import TOML_LIMIT, parse_toml
from kdcam.settings.messages import did_you_mean


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
                raise RecipeError(
                    f"recipe {shown(path)}: cannot be read ({reason(error.__cause__)}); give a TOML file or a name of "
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


def reason(error: OSError) -> str:
    """Return the reason of a failed read, without the path that the caller names anyway."""
    return (error.strerror or str(error)).lower()


def recipe_stem(name_or_path: str | Path) -> str:
    """Return the short name of a recipe, for the run folder: photos for ~/x/photos.toml and mnist for small/mnist."""
    return Path(name_or_path).name.removesuffix(".toml")


def read_toml(name_or_path: str | Path) -> dict[str, Any]:
    """Return a recipe's table as written.

    Raises ``RecipeError`` when there is no such recipe, or when it is not TOML (with line and column).
    """
    text = recipe_text(name_or_path).replace("\r\n", "\n").replace("\r", "\n")
    return parse_toml(text, error=RecipeError, place=f"recipe {shown(name_or_path)}")


__all__ = ["read_toml", "reason", "recipe_stem", "recipe_text", "shipped_recipes"]
