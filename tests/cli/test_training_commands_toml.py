import tomllib
from typing import Any

import pytest

from kdcam.recipe.recipe_files import shipped_recipes
from kdcam.recipe.train_recipe import load_recipe


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_come_back(module, name: str) -> None:
    teacher = ["teacher.checkpoint=runs/x"] if 'name = "kd"' in shipped_recipes()[name] else []
    table = load_recipe(name, teacher).model_dump(mode="json", exclude_none=True)
    assert tomllib.loads(module("training_commands").toml_text(table)) == table


@pytest.mark.parametrize(
    "table",
    [
        {"text": 'quote " backslash \\ newline \n tab \t é \x7f'},
        {
            "number": 1e-05,
            "whole": -3,
            "large": 1e300,
            "yes": True,
            "list": [1, 2.5],
            "words": ["a", "b"],
            "none": [],
        },
        {"outer": {"x": 1, "inner": {"y": [0.9, 0.999]}}, "last": 2},
        {"tables": [{"name": "a", "options": {"k": 1}}, {"name": "b"}]},
        {"odd key": {"with.dot": 1}},
        {},
    ],
)
def test_round_trip(module, table: dict[str, Any]) -> None:
    assert tomllib.loads(module("training_commands").toml_text(table)) == table


def test_none_is_left_out_and_name_comes_first(module) -> None:
    text = module("training_commands").toml_text({"weight": 1.0, "name": "kd", "root": None})
    assert text == 'name = "kd"\nweight = 1.0\n'
