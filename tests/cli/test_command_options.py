"""The arguments and options of every command are those of tests/assets/command_options.json.

Run as a script (python tests/cli/test_command_options.py) to write the file anew, after a change that is meant to
change them.
"""

import inspect
import json
import sys
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import typer

FILE = Path(__file__).parents[1] / "assets" / "command_options.json"
WAY_OUT = "if this is meant, write them anew: python tests/cli/test_command_options.py"


def command_line(patch: pytest.MonkeyPatch) -> Any:
    """Return the command that the entry point calls, as click sees it."""
    from command_line import entry_point

    called: list[typer.Typer] = []
    patch.setattr(typer.Typer, "__call__", lambda app, **_: called.append(app))
    with pytest.raises(SystemExit):
        entry_point()()
    (app,) = called
    return typer.main.get_command(app)


def commands(command: Any, name: str = "kdcam") -> dict[str, Any]:
    """Return what each command takes, by the words that call it."""
    types = {} if command.callback is None else get_type_hints(inspect.unwrap(command.callback))
    takes = [parameter(one, types[one.name]) for one in command.params]
    own = {name: {"help": command.help, "takes": takes}}
    for word, below in getattr(command, "commands", {}).items():
        own |= commands(below, f"{name} {word}")
    return own


def parameter(one: Any, annotation: Any) -> dict[str, Any]:
    """Return the names, type, bounds, default, number and help of an option or argument."""
    return {
        "kind": "argument" if isinstance(one, typer.core.TyperArgument) else "option",
        "names": [*one.opts, *one.secondary_opts],
        "metavar": one.metavar,
        "type": spelled(annotation),
        "bounds": [getattr(one, end, None) for end in ("min", "max")],
        "required": one.required,
        "default": shown(one.default),
        "repeatable": one.multiple,
        "values": one.nargs,
        "hidden": one.hidden,
        "help": one.help,
    }


def spelled(annotation: Any) -> str:
    """Return a type in the same words on every version of Python."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return "|".join(inner)
    if origin in (Union, UnionType):
        return " or ".join(map(spelled, inner))
    if origin is list:
        return f"list of {spelled(*inner)}"
    return "None" if annotation is NoneType else annotation.__name__


def shown(default: Any) -> Any:
    """Return a default as JSON has it."""
    if isinstance(default, list | tuple):
        return [shown(value) for value in default]
    if default is None or isinstance(default, bool | int | float | str):
        return default
    return str(getattr(default, "value", default))


def test_commands_take_what_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, kept = commands(command_line(monkeypatch)), json.loads(FILE.read_text())
    assert list(ours) == list(kept), f"other commands; {WAY_OUT}"
    for name, command in ours.items():
        names = [one["names"] for one in command["takes"]]
        assert names == [one["names"] for one in kept[name]["takes"]], f"{name}: other options; {WAY_OUT}"
        for one, other in zip(command["takes"], kept[name]["takes"], strict=True):
            assert one == other, f"{name}: {'/'.join(one['names'])} is another; {WAY_OUT}"
        assert command["help"] == kept[name]["help"], f"{name}: another help text; {WAY_OUT}"


def test_a_changed_default_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    command = command_line(monkeypatch)
    (option,) = (one for one in command.commands["few-shot"].params if one.name == "ways")
    monkeypatch.setattr(option, "default", 6)
    changed = [
        (name, one["names"])
        for name, kept in json.loads(FILE.read_text()).items()
        for one, other in zip(kept["takes"], commands(command)[name]["takes"], strict=True)
        if one != other
    ]
    assert changed == [("kdcam few-shot", ["--ways"])]


def written(table: dict[str, Any]) -> str:
    """Return the file's text: a line for each option."""
    text = {
        name: f'"help": {json.dumps(command["help"])},\n  "takes": ['
        + ",".join(f"\n   {json.dumps(one)}" for one in command["takes"])
        + "]"
        for name, command in table.items()
    }
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {{{text[name]}}}" for name in text) + "\n}\n"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    with pytest.MonkeyPatch.context() as patch:
        FILE.write_text(written(commands(command_line(patch))))
