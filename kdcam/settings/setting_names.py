"""Settings of an evaluation in messages: by the key that Python takes and the flag of the command line."""

import re
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from kdcam.errors import RecipeError
from kdcam.settings.recipe_errors import validation_messages

_FLAGS: Mapping[str, str] = {"heads": "head"}  # that are not called as their key


def key_and_flag(key: str) -> str:
    """Return a key with its flag: ``map_of (--map-of)``."""
    return f"{key} (--{_FLAGS.get(key, key.replace('_', '-'))})"


def settings_error(error: ValidationError, model: type[BaseModel], *, command: str) -> RecipeError:
    """Return what is wrong with settings, a sentence each: ``verify.far[0] (--far): found 2.0; must be less than 1``.

    Args:
        error: what pydantic says.
        model: of the settings, one level deep.
        command: that takes them.
    """
    keys = "|".join(model.model_fields)
    begin = re.compile(rf"{command}\.({keys})((?:\[\d+\])*)(?=: )")

    def with_flag(found: re.Match[str]) -> str:
        return found[0] + key_and_flag(found[1]).removeprefix(found[1])

    lines = validation_messages(error, model, place=command)
    return RecipeError("; ".join(begin.sub(with_flag, line, count=1) for line in lines))


__all__ = ["key_and_flag", "settings_error"]
