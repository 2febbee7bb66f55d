import os
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from kdcam.errors import RecipeError
from kdcam.recipe.recipe_files import read_toml, recipe_stem, recipe_text, shipped_recipes

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
