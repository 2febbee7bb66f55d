from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.recipe.train_recipe import TrainRecipe, check_command, command_of, read_recipe

KD = {"loss": [{"name": "cross_entropy"}, {"name": "kd"}], "teacher": {"checkpoint": "a"}}


def recipe(**tables: Any) -> TrainRecipe:
    return read_recipe({"data": {"name": "digits"}, **tables}, source="small")


def test_the_tables_tell_the_command() -> None:
    assert command_of(recipe()) == "train"
    assert command_of(recipe(init={"checkpoint": "a"})) == "finetune"
    assert command_of(recipe(**KD)) == "distill"
    assert command_of(recipe(**KD, init={"checkpoint": "a"})) == "distill"


@pytest.mark.parametrize(
    ("tables", "command", "message"),
    [
        ({"init": {"checkpoint": "a"}}, "train", r"has an \[init\] table; use `kdcam finetune`"),
        (KD, "train", r"has a \[teacher\] table; use `kdcam distill`"),
        (KD, "finetune", r"has a \[teacher\] table; use `kdcam distill`"),
        ({}, "finetune", r"no \[init\] table; name what to start from with --from CHECKPOINT"),
        ({}, "distill", r"no \[teacher\] table; .* or use `kdcam train`"),
        ({"init": {"checkpoint": "a"}}, "distill", r"no \[teacher\] table; .* or use `kdcam finetune`"),
    ],
)
def test_another_command_is_named(tables: dict[str, Any], command: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_command(recipe(**tables), command)
