"""The closed base of all settings, and what is wrong with settings in words: each key, its value, what is allowed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError
from pydantic_core import ErrorDetails

from kdcam.errors import RecipeError
from kdcam.settings.messages import did_you_mean, listed, short

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MOST_PROBLEMS = 50  # of a recipe in one message; kdcam's choice
_SHOWN_LENGTH = 200  # characters of a value in a message
_TYPE_WORDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text in quotes",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
    "union_tag_not_found": "a table",
}
_BOUND_WORDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_COMMAND_SETS = {
    "init.checkpoint": "`kdcam finetune RECIPE --from CHECKPOINT` sets it",
    "teacher.checkpoint": "`kdcam distill RECIPE --teacher RUN` sets it",
}
_FLAGS: Mapping[str, str] = {"heads": "head"}  # that are not called as their key


class Settings(BaseModel):
    """A group of settings: frozen, refuses unknown keys, its defaults live in its fields and nowhere else."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def validation_messages(error: ValidationError, model: type[BaseModel], *, place: str = "") -> list[str]:
    """Return one sentence a problem: the key's path (below ``place``), the value found, what is allowed.

    Of more than `MOST_PROBLEMS` problems the first are named and the others counted.
    """
    # A default that follows from a wrong key is not itself wrong.
    wrong = [details for details in error.errors() if details["type"] != "default_factory_not_called"]
    lines = [line for details in wrong[:MOST_PROBLEMS] for line in _sentences(details, model, place)]
    return lines if len(wrong) <= MOST_PROBLEMS else [*lines, f"... and {len(wrong) - MOST_PROBLEMS:,} more"]


def _sentences(details: ErrorDetails, model: type[BaseModel], root: str) -> Iterator[str]:
    location = tuple(details["loc"])
    kind, context = details["type"], details.get("ctx", {})
    if kind == "value_error":
        # The recipe's own checks across keys: each line is a whole sentence that names its key.
        place = _place(location, model, root)
        for line in str(context["error"]).split("\n"):
            yield f"{place}: {line}" if place else line
        return
    if kind == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        key = str(location[-1])
        place = _place(location[:-1], model, root)
        yield f"{place or 'recipe'}: unknown key {_shown(key)}{did_you_mean(key, known)}; known keys: {listed(known)}"
        return
    if kind == "union_tag_not_found" and isinstance(details["input"], dict):
        names = listed(_names(model, location))
        yield f"{_place(location, model, root)}: the key name is missing; allowed: {names}"
        return
    place = _place(location, model, root)
    way_out = f"; {_COMMAND_SETS[place]}" if kind == "missing" and place in _COMMAND_SETS else ""
    yield f"{place or 'recipe'}: {_allowed(kind, context, details)}{way_out}"


def _allowed(kind: str, context: Mapping[str, Any], details: ErrorDetails) -> str:
    found = details["input"]
    if kind == "missing":
        return "this key is missing"
    if kind == "literal_error":
        return f"found {_shown(found)}; allowed: {context['expected']}{_close(found, context['expected'])}"
    if kind == "union_tag_invalid":
        tag = context["tag"]
        return f"found name {_shown(tag)}; allowed: {context['expected_tags']}{_close(tag, context['expected_tags'])}"
    if kind in ("tuple_type", "list_type"):
        return f"found {_shown(found)}; must be a list, as in {_in_toml_list(found)}"
    if kind in _TYPE_WORDS:
        return f"found {_shown(found)}; must be {_TYPE_WORDS[kind]}"
    if kind in _BOUND_WORDS:
        key, words = _BOUND_WORDS[kind]
        return f"found {_shown(found)}; must be {words} {context[key]:.15g}"
    return f"found {_shown(found)}; {details['msg'][:1].lower()}{details['msg'][1:]}"


def _shown(found: object) -> str:
    return short(found, most=_SHOWN_LENGTH)


def _in_toml_list(found: object) -> str:
    text = json.dumps(found) if isinstance(found, str | int | float) else "1, 2"
    return f"[{text}]" if len(text) <= _SHOWN_LENGTH else "[1, 2]"


def _close(found: object, expected: str) -> str:
    words = [word.strip().strip("'") for word in expected.replace(" or ", ",").split(",")]
    return did_you_mean(str(found), words)


def _place(location: Sequence[int | str], model: type[BaseModel], root: str) -> str:
    """Return ``loss[1] (kd).temperature`` for ("loss", 1, "kd", "temperature"), below ``root``."""
    place = root
    here: Any = model
    for part in location:
        inner, is_tag = _step_into(here, part)
        if isinstance(part, int):
            place += f"[{part}]"
        elif is_tag:
            place += f" ({part})"
        else:
            text = part if part.isprintable() and len(part) <= _SHOWN_LENGTH else _shown(part)
            place += f".{text}" if place else text
        here = inner
    return place


def _known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    models = (member for member, _ in _members(_annotation(model, location)) if _is_model(member))
    return list(dict.fromkeys(key for member in models for key in member.model_fields))


def _names(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    return [tag for _, tag in _members(_annotation(model, location)) if tag is not None]


def _annotation(model: type[BaseModel], location: Sequence[int | str]) -> Any:
    here: Any = model
    for part in location:
        here, _ = _step_into(here, part)
    return here


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _step_into(annotation: Any, part: int | str) -> tuple[Any, bool]:
    """Return the annotation that one part of a location leads to, and whether the part was a union's tag."""
    members = list(_members(annotation))
    tagged = {tag: member for member, tag in members if tag is not None}
    if len(tagged) > 1 and part in tagged:
        return tagged[part], True
    for member, _ in members:
        if _is_model(member) and part in member.model_fields:
            return member.model_fields[part].rebuild_annotation(), False
        if isinstance(part, int) and get_origin(member) in (tuple, list):
            return get_args(member)[0], False
    return None, False


def _members(annotation: Any, tag: str | None = None) -> Iterator[tuple[Any, str | None]]:
    """Yield every type inside unions and annotations, each with the tag by which a union tells it from others."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        tags = [item.tag for item in metadata if isinstance(item, Tag)]
        yield from _members(inner, tags[0] if tags else tag)
    elif origin in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        names: tuple[str | None, ...] = (tag,)
        if tag is None and _is_model(annotation) and "name" in annotation.model_fields:
            names = get_args(annotation.model_fields["name"].annotation) or names
        for name in names:
            yield annotation, name


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


__all__ = [
    "MOST_PROBLEMS",
    "NonNegative",
    "Positive",
    "Settings",
    "key_and_flag",
    "settings_error",
    "validation_messages",
]
