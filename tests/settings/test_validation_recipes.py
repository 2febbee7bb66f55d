"""Every wrong value at every place of a recipe ends in kdcam's own words."""

import copy
import datetime
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.recipe.train_recipe import read_recipe

TABLE: dict[str, Any] = {
    "description": "x",
    "task": "single-label",
    "seed": 0,
    "epochs": 3,
    "batch_size": 8,
    "select": "best",
    "precision": "auto",
    "compile": False,
    "accumulate": 1,
    "clip_norm": 0.0,
    "ema_decay": 0.0,
    "data": {
        "name": "digit-scenes",
        "augment": ["crop"],
        "mixup": 0.0,
        "noise": {"kind": "symmetric", "rate": 0.4},
    },
    "model": {"name": "kdcam:resnet8", "mean": [0.5]},
    "teacher": {"checkpoint": "runs/teacher"},
    "loss": [{"name": "cross_entropy"}, {"name": "kd", "weight": 1.0}],
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": {"name": "cosine"},
}
# All that TOML can hold, and None, which a notebook can.
VALUES = [
    None,
    True,
    -1,
    2.5,
    10**30,
    float("nan"),
    float("inf"),
    "word",
    datetime.date(2020, 1, 1),
    [],
    [1],
    [[]],
    ["x"],
    [{}],
    [{"name": []}],
    {},
    {"name": 3},
    {"name": {}},
    {"name": "word"},
    {"unknown": 1},
]
# pydantic's own words, and what stands for a place or a default that was not found.
FOREIGN = re.compile(r"pydantic|Undefined|known keys: none|allowed: none|Input should|valid dictionary", re.I)


def places(table: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in inner:
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def changed(place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    table = copy.deepcopy(TABLE)
    inner: Any = table
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return table


def problem(table: dict[str, Any]) -> str:
    with pytest.raises(RecipeError) as caught:
        read_recipe(table, source="mine")
    return str(caught.value)


def test_the_table_itself_is_a_recipe() -> None:
    read_recipe(TABLE, source="mine")


@pytest.mark.parametrize("place", list(places(TABLE)), ids=lambda place: ".".join(map(str, place)))
def test_no_value_at_a_place_ends_in_anything_but_a_recipe_or_a_recipe_error(place: tuple[Any, ...]) -> None:
    refused = 0
    for value in VALUES:
        try:
            read_recipe(changed(place, value), source="mine")
        except RecipeError as error:
            refused += 1
            assert not FOREIGN.search(str(error)), error
            assert str(place[0]) in str(error)
    assert refused > len(VALUES) / 2


@pytest.mark.parametrize("key", ["data", "optimizer", "schedule", "model", "teacher"])
def test_a_name_where_a_table_belongs(key: str) -> None:
    assert f"{key}: found 'adamw'; must be a table" in problem(changed((key,), "adamw"))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("schedule",), {}, "schedule: the key name is missing; allowed: constant, cosine, multistep, step"),
        (
            ("loss", 1),
            {"weight": 1},
            "loss[1]: the key name is missing; allowed: anchor, arcface, asoftmax",
        ),
        (("data",), {"root": "x"}, "data: the key name is missing; allowed: digits, digit-scenes, mnist"),
    ],
)
def test_a_missing_name_lists_the_names(place: tuple[Any, ...], value: Any, said: str) -> None:
    assert said in problem(changed(place, value))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            ("data", "noise"),
            {"rate": 0.1, "sed": 1},
            "data (digit-scenes).noise: unknown key 'sed'; did you mean 'seed'?; known keys: kind, rate, seed",
        ),
        (
            ("schedule",),
            {"name": "step", "warmup": 1},
            "schedule (step): unknown key 'warmup'; did you mean 'warmup_epochs'?; "
            "known keys: name, warmup_epochs, options",
        ),
        (
            ("optimizer",),
            {"name": "lion", "lr": 0.1, "momentun": 1},
            "optimizer (timm): unknown key 'momentun'; known keys: name, lr, weight_decay",
        ),
        (("loss", 1), {"name": "kd", "T": 4}, "loss[1] (kd): unknown key 'T'; known keys: name, weight,"),
    ],
)
def test_an_unknown_key_inside_a_table_lists_that_tables_keys(
    place: tuple[Any, ...], value: Any, said: str
) -> None:
    assert said in problem(changed(place, value))


def test_bounds_and_types_say_what_was_found() -> None:
    text = problem(
        {
            **TABLE,
            "epochs": 0,
            "ema_decay": 1.0,
            "compile": "perhaps",
            "data": {**TABLE["data"], "noise": {"rate": 2}, "augment": "crop"},
        }
    )
    for said in (
        "epochs: found 0; must be at least 1",
        "ema_decay: found 1.0; must be less than 1",
        "compile: found 'perhaps'; must be true or false",
        "data (digit-scenes).noise.rate: found 2; must be at most 1",
        "data (digit-scenes).augment: found 'crop'; must be a list, as in [\"crop\"]",
    ):
        assert said in text


def test_each_problem_has_a_line_of_its_own() -> None:
    text = problem({**TABLE, "epochs": 0, "batch_size": "many", "loss": [{"name": "cam", "start": 2}]})
    head, *lines = text.split("\n")
    assert head == "recipe mine has 3 problems:"
    assert [line.split(":")[0].strip() for line in lines] == ["epochs", "batch_size", "loss[0] (cam).start"]


@pytest.mark.parametrize("place", ["{}", "data", "optimizer"])
def test_of_many_wrong_keys_the_first_are_named_and_the_others_counted(place: str) -> None:
    table = copy.deepcopy(TABLE)
    holder = table if place == "{}" else table[place]
    holder |= {f"key_{number}": number for number in range(200_000)}
    began = time.process_time()
    with pytest.raises(RecipeError, match=r"has 200,0\d\d problems:") as caught:
        read_recipe(table, source="many")
    assert time.process_time() - began < 4  # a second on an idle machine
    lines = str(caught.value).split("\n")
    assert len(lines) < 60
    assert "unknown key 'key_0'" in lines[1]
    assert re.fullmatch(r"  \.\.\. and 199,9\d\d more", lines[-1])


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("description", "a\0b", "description has NUL in"),
        ("description", "caf\udce9", "description has a lone surrogate in"),
        ("seed", 2**63, "seed is a whole number of more than 64 bits"),
        ("precision", "x" * 100_000, "precision: found .xxx"),
        ("x" * 100_000, 1, "unknown key 'xxx"),
        ("data", [[[]]] * 100_000, r"found a list of 100000 values; must be a table"),
    ],
    ids=["nul", "surrogate", "number", "name", "key", "list"],
)
def test_values_too_long_to_show_are_told_short(key: str, value: Any, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as caught:
        read_recipe({**TABLE, key: value}, source="long")
    assert len(str(caught.value)) < 2_000
