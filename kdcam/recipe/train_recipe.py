"""Recipes whose tables fit together: read from a file or a table, as frozen models, and their command."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from kdcam.errors import RecipeError
from kdcam.files.parsed_values import check_values
from kdcam.files.paths import shown
from kdcam.recipe.methods import apply_method, fill_method, method_config, method_names
from kdcam.recipe.recipe_fields import RecipeFields, RecipeSource, TeacherConfig
from kdcam.recipe.recipe_files import apply_override, read_toml, recipe_stem
from kdcam.recipe.table_checks import cache_problems, recipe_problems
from kdcam.settings.validation import MOST_PROBLEMS, validation_messages

Command = Literal["train", "distill", "finetune"]


class TrainRecipe(RecipeFields):
    """A training run."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = list(recipe_problems(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self


class DistillRecipe(TrainRecipe):
    """A training run under a teacher."""

    teacher: TeacherConfig

    @property
    def teachers(self) -> tuple[TeacherConfig, ...]:
        """The networks that teach."""
        return (self.teacher,)

    @property
    def has_teacher(self) -> bool:
        """Whether the recipe names a teacher."""
        return True

    @model_validator(mode="after")
    def _teacher_teaches(self) -> Self:
        attack_reads = self.adversary is not None and bool(self.adversary.needs)
        if not attack_reads and not any(loss.reads_teacher() for loss in self.loss):
            raise ValueError(
                "loss: no term reads the teacher; add one (kd, caam_cam), or remove the [teacher] table"
            )
        return self

    @model_validator(mode="after")
    def _cache_fits(self) -> Self:
        problems = list(cache_problems(self.teachers, self.data))
        if problems:
            raise ValueError("\n".join(problems))
        return self


class SeveralTeachersRecipe(DistillRecipe):
    """A training run under the teachers of ``[[teacher]]`` tables; each teacher term is the mean over them."""

    # A recipe class of its own, not a union, so that a wrong key is told once.
    teacher: tuple[TeacherConfig, ...] = Field(min_length=1)  # type: ignore[assignment]

    @property
    def teachers(self) -> tuple[TeacherConfig, ...]:
        """The networks that teach."""
        return self.teacher


def read_recipe(table: Mapping[str, Any], *, source: str, stem: str | None = None) -> TrainRecipe:
    """Return the recipe that a table describes: a `DistillRecipe` when it has a [teacher] table or several.

    ``stem``: what the recipe is called, where it is of a file.

    Raises ``RecipeError`` that names every wrong key at once.
    """
    check_values(table, error=RecipeError, place=f"recipe {source}", bits=64, finite=False)
    table = dict(table)
    apply_method(table, None)
    model: type[TrainRecipe] = DistillRecipe if "teacher" in table else TrainRecipe
    if isinstance(table.get("teacher"), list | tuple):
        model = SeveralTeachersRecipe
    try:
        recipe = model.model_validate(table)
    except ValidationError as error:
        problems = validation_messages(error, model)
        count = len(problems) if len(problems) <= MOST_PROBLEMS else error.error_count()
        head = f"recipe {source}: " if len(problems) == 1 else f"recipe {source} has {count:,} problems:\n  "
        raise RecipeError(head + "\n  ".join(problems)) from error
    recipe._origin = RecipeSource(stem)
    return recipe


def load_recipe(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, method: str | None = None
) -> TrainRecipe:
    """Return a shipped recipe or a TOML file, with ``key.sub=value`` overrides applied before it is checked.

    ``method`` fills in the losses of a distillation method (see `kdcam.recipe.methods`) before the overrides; without
    it an override ``method=NAME`` does so. The recipe keeps the file's short name and ``method`` as its ``stem``.

    Raises ``RecipeError`` when there is no such recipe, it is not TOML, or it has wrong keys or values (all
    named at once).
    """
    table = read_toml(name_or_path)
    for override in fill_method(table, overrides, method):
        apply_override(table, override)
    stem = recipe_stem(name_or_path) if method is None else f"{recipe_stem(name_or_path)}-{method}"
    return read_recipe(table, source=shown(name_or_path), stem=stem)


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe with every key; without its [teacher] table it is a training recipe."""
    document = DistillRecipe.model_json_schema()
    document["required"] = [key for key in document["required"] if key != "teacher"]
    one = document["properties"]["teacher"]
    document["properties"]["teacher"] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    document["properties"]["method"] = {
        "enum": method_names(),
        "description": "a distillation method, in the place of [[loss]] tables",
    }
    document["properties"]["methods"] = {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/{method_config(name).__name__}"} for name in method_names()},
        "additionalProperties": False,
        "description": "settings of a method for this pair of networks, where it is chosen: [methods.dkd] beta = 2; "
        "of a sum of losses they go to the last",
    }
    published = document["properties"]["published"]
    of_methods = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Published"}}
    published["anyOf"] = [*published["anyOf"], of_methods]
    return document


def command_of(recipe: TrainRecipe) -> Command:
    """Return the command that a recipe is for: distill with a [teacher] table, else finetune with [init], else train.

    A recipe with both tables is a distillation whose student starts from a trained network.
    """
    if recipe.has_teacher:
        return "distill"
    return "train" if recipe.init is None else "finetune"


def check_command(recipe: TrainRecipe, command: Command) -> None:
    """Raise ``RecipeError`` when a recipe's [teacher] and [init] tables are for another command."""
    right = command_of(recipe)
    if right == command:
        return
    if command == "distill":
        raise RecipeError(
            "teacher: the recipe has no [teacher] table; name one with --teacher RUN (teacher.checkpoint), "
            f"or use `kdcam {right}`"
        )
    if right == "train":
        raise RecipeError(
            "init: the recipe has no [init] table; name what to start from with --from CHECKPOINT "
            "(init.checkpoint), or use `kdcam train`"
        )
    table = "teacher" if right == "distill" else "init"
    raise RecipeError(
        f"{table}: the recipe has {'a' if right == 'distill' else 'an'} [{table}] table; use `kdcam {right}` "
        f"(kdcam.{right}), or remove the table"
    )


__all__ = [
    "Command",
    "DistillRecipe",
    "SeveralTeachersRecipe",
    "TrainRecipe",
    "check_command",
    "command_of",
    "load_recipe",
    "read_recipe",
    "recipe_schema",
]
