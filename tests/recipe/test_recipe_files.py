import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.recipe.recipe_files import (
    apply_override,
    data_overrides,
    parse_value,
    read_toml,
    recipe_stem,
    recipe_text,
    shipped_recipes,
)

ROOT = Path(__file__).parents[2]


def test_every_toml_file_of_the_package_is_listed_sorted() -> None:
    folder = Path(str(resources.files("kdcam.recipes")))
    files = [path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml")]
    assert list(shipped_recipes()) == sorted(files)
    assert {"digits", "quickstart/teacher", "quickstart/student"} <= set(files)


def test_a_shipped_recipe_by_name_is_its_file_as_written() -> None:
    assert recipe_text("digits") == (ROOT / "recipes" / "digits.toml").read_text(encoding="utf-8")
    assert read_toml("digits") == tomllib.loads(recipe_text("digits"))


def test_a_file_goes_before_a_shipped_recipe_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("epochs = 1", encoding="utf-8")
    assert read_toml("digits") == {"epochs": 1}


def test_a_folder_of_a_recipes_name_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert "data" in read_toml("digits")


def test_other_than_ascii_is_read_as_utf8(tmp_path: Path) -> None:
    path = tmp_path / "fotos.toml"
    path.write_bytes('description = "Bäume"'.encode())
    assert read_toml(path) == {"description": "Bäume"}


@pytest.mark.parametrize("name", ["", ".", "nowhere", "quickstart", "examples/mnst", "../digits"])
def test_names_that_are_no_recipe(name: str) -> None:
    with pytest.raises(RecipeError, match=r"neither a file nor a shipped recipe.*kdcam recipes list"):
        recipe_text(name)


def test_a_close_name_is_proposed() -> None:
    with pytest.raises(RecipeError, match="did you mean 'examples/mnist'"):
        recipe_text("examples/mnst")


def test_a_folder_called_toml(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").mkdir()
    with pytest.raises(RecipeError, match=r"mine\.toml: cannot be read \(is a directory\)"):
        recipe_text(tmp_path / "mine.toml")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("epochs = 1")
    path.chmod(0)
    with pytest.raises(RecipeError, match=r"mine\.toml: cannot be read \(permission denied\)"):
        recipe_text(path)


@pytest.mark.parametrize(
    ("given", "stem"),
    [
        ("digits", "digits"),
        ("examples/mnist", "mnist"),
        (Path("/home/me/photos.toml"), "photos"),
        ("my.photos.toml", "my.photos"),
    ],
)
def test_stem(given: str | Path, stem: str) -> None:
    assert recipe_stem(given) == stem


def test_a_recipe_of_more_than_a_megabyte_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "many.toml"
    file.write_text("".join(f"key_{number} = {number}\n" for number in range(200_000)))
    with pytest.raises(RecipeError, match=r"many\.toml: has more than 1 MB, the most that is read"):
        read_toml(file)


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
