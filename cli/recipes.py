"""`kdcam recipes list|show|schema|new`."""

from pathlib import Path
from typing import Annotated

import typer

from kdcam.blocks.document import Table
from kdcam.errors import RecipeError
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.paths import exists

from . import render
from .options import Json

app = typer.Typer(no_args_is_help=True, help="Recipes: the files that describe a run.", rich_markup_mode=None)


@app.command("list")
def list_recipes(as_json: Json = False) -> None:
    """List the recipes that come with kdcam."""
    from kdcam.files.toml_files import parse_toml  # slow: tomllib
    from kdcam.recipe.recipe_files import shipped_recipes  # slow: tomllib

    tables = {
        name: parse_toml(text, error=RecipeError, place=name) for name, text in shipped_recipes().items()
    }
    entries = [
        {
            "name": name,
            "command": _command_of(table),
            "description": str(table.get("description", "")),
        }
        for name, table in tables.items()
    ]
    if as_json:
        render.show_json(entries)
        return
    rows = [tuple(entry.values()) for entry in entries]
    render.show_table(Table(("recipe", "command", "description"), rows, left=3))


def _command_of(table: dict[str, object]) -> str:
    """Return the command that a recipe is meant for; without [teacher] perhaps ``kdcam distill R --teacher RUN``."""
    from kdcam.comparison.plan.row_recipes import reads_teacher  # slow: torch

    if "teacher" in table or "method" in table or reads_teacher(table):
        return "distill"
    return "finetune" if "init" in table else "train"


@app.command("show")
def show_recipe(
    name: Annotated[str, typer.Argument(help="A name of `kdcam recipes list`, or a file.")],
    as_json: Json = False,
) -> None:
    """Print a recipe as it is written.

    To make it your own: kdcam recipes show NAME > mine.toml
    """
    from kdcam.recipe.recipe_files import read_toml, recipe_text  # slow: tomllib

    if as_json:
        render.show_json(read_toml(name))
    else:
        render.show_page(recipe_text(name))


@app.command("schema")
def show_schema() -> None:
    """Print the JSON schema of recipes.

    Every key with its type, bounds and default.
    """
    from kdcam.recipe.train_recipe import recipe_schema  # slow: torch

    render.show_json(recipe_schema())


@app.command("new")
def new_recipe(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Class folders, train/ with class folders, YOLO's images/ and labels/, or pictures."
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option("--labels", metavar="FILE", help="A CSV or JSON file with the labels of each picture."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write; stdout unless given."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a first recipe for a folder of pictures.

    Reads the pictures once (of more than 20,000 some hundred headers), looks at this machine, and says in comments why
    each number was chosen. With label files the recipe is one of several labels a picture.
    """
    from kdcam.data.folder_contents import measure_folder, measure_machine  # slow: torch
    from kdcam.files.toml_files import parse_toml  # slow: tomllib
    from kdcam.training.recipe_advice import advise, notes, recipe_lines  # slow: torch

    if output is not None:
        _check_free(output)
    with render.watching(quiet=False) as progress:
        facts, machine = measure_folder(folder, labels=labels, progress=progress), measure_machine()
    advice = advise(facts, machine)
    remarks = notes(facts, machine, advice)
    text = "\n".join(recipe_lines(facts, machine, advice)) + "\n"
    if output is not None:
        _write(output, text)
    if as_json:
        file = None if output is None else str(output)
        recipe = parse_toml(text, error=RecipeError, place="the recipe")
        render.show_json({"file": file, "notes": remarks, "recipe": recipe})
    elif output is None:
        render.show_page(text)
    else:
        for note in remarks:
            render.show_text(note)
        render.show_text(f"wrote {output}; next: kdcam train {output}")


def _check_free(file: Path) -> None:

    if exists(file):
        raise RecipeError(
            f"{file}: is already there and is not overwritten; choose another name with --output"
        )


def _write(file: Path, text: str) -> None:

    write_atomically(file, text.encode())  # a part of it would bar the next try


__all__ = ["app", "list_recipes", "new_recipe", "show_recipe", "show_schema"]
