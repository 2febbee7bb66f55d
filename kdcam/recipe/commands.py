"""Which of the training commands a recipe is for, told by its tables [teacher] and [init]."""

from typing import Literal

from kdcam.errors import RecipeError
from kdcam.recipe.train_recipe import TrainRecipe

Command = Literal["train", "distill", "finetune"]


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


__all__ = ["Command", "check_command", "command_of"]
