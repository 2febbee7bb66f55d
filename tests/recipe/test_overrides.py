from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.recipe.recipe_files import apply_override, data_overrides, parse_value


def table() -> dict[str, Any]:
    return {
        "epochs": 3,
        "optimizer": {"lr": 0.1},
        "loss": [{"name": "kd"}, {"name": "cam"}, {"name": "cam"}],
        "data": {"augment": ["crop"]},
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("5e-4", 5e-4),
        ("true", True),
        ('["crop", "flip"]', ["crop", "flip"]),
        ('"3"', "3"),
        ("resnet18", "resnet18"),
        ("a/b.c", "a/b.c"),
        ("", ""),
    ],
)
def test_values_are_read_as_toml_else_as_text(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_keys_tables_lists_and_new_tables() -> None:
    changed = table()
    for override in (
        "epochs=9",
        "optimizer.lr = 0.5",
        "loss.kd.weight=2",
        "loss.2.start=0.1",
        "teacher.checkpoint=x=y",
    ):
        apply_override(changed, override)
    assert changed["epochs"] == 9
    assert changed["optimizer"] == {"lr": 0.5}
    assert changed["loss"] == [{"name": "kd", "weight": 2}, {"name": "cam"}, {"name": "cam", "start": 0.1}]
    assert changed["teacher"] == {"checkpoint": "x=y"}


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("epochs", "must read key=value"),
        ("=3", "must read key=value"),
        ("a..b=3", "must read key=value"),
        ("epochs.x=3", "epochs is the value 3, not a table"),
        ("data.augment.crop.x=1", r"data.augment is the value \['crop'\], not a table"),
        (
            "loss.dkd.weight=1",
            r"loss.dkd names no table of the recipe; there are: 0 \(kd\), 1 \(cam\), 2 \(cam\)",
        ),
        ("loss.cam.weight=1", "loss.cam names several tables; use its index"),
        ("loss.7.weight=1", "names no table"),
        ("loss.kd=1", "is a whole table; name a key in it"),
    ],
)
def test_paths_that_lead_nowhere(override: str, match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        apply_override(table(), override)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("1" * 5000, r"a number of thousands of digits"),
        ("0x" + "f" * 5000, "a whole number of more than 64 bits"),
        (str(2**63), "a whole number of more than 64 bits"),
        ("[" * 3000, "hundreds of nested brackets"),
        ("[" * 70 + "]" * 70, "more than 64 levels deep"),
        ("caf\udce9", "has a lone surrogate in"),
        ('"caf\udce9"', "has a lone surrogate in"),
        (r'"a\u0000b"', "has NUL in"),
    ],
)
def test_values_that_nothing_could_hold_are_refused_in_one_line(value: str, match: str) -> None:
    with pytest.raises(RecipeError, match=match) as caught:
        apply_override(table(), f"data.root={value}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_path_of_thousands_of_keys_or_digits_leads_nowhere() -> None:
    changed = table()
    with pytest.raises(RecipeError, match="names 50001 keys, more than 64"):
        apply_override(changed, ".".join("a" * 50_001) + "=1")
    with pytest.raises(RecipeError, match="names no table"):
        apply_override(changed, f"loss.{'1' * 5000}.weight=1")


def test_places_of_a_runs_data_are_read_and_nothing_else() -> None:
    sets = ["data.root=3", "data.labels=a b.csv", "data.workers=4"]
    assert data_overrides(sets) == {"root": "3", "labels": "a b.csv", "workers": 4}
    assert data_overrides([]) == {}
    for wrong in ("optimizer.lr=1", "data=x", "root=x"):
        with pytest.raises(RecipeError, match=r"a run is as it was trained; .* --set data\.root=DIR"):
            data_overrides([wrong])
