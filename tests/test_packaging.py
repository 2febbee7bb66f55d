"""What is installed: the hand-kept package list, the recipes, the console script."""

import ast
import tomllib
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
SOURCES = sorted([*ROOT.glob("kdcam/**/*.py"), *ROOT.glob("cli/*.py"), *ROOT.glob("recipes/*.py")])


def test_package_list_equals_the_folders() -> None:
    library = {
        str(init.parent.relative_to(ROOT)).replace("/", ".") for init in (ROOT / "kdcam").rglob("__init__.py")
    }
    assert set(SETUPTOOLS["packages"]) == library | {"kdcam.cli", "kdcam.recipes"}


def test_every_folder_of_modules_is_a_package() -> None:
    for module in SOURCES:
        assert (module.parent / "__init__.py").exists(), module.parent


def test_types_and_recipes_are_packaged() -> None:
    assert SETUPTOOLS["package-data"] == {
        "kdcam": ["py.typed"],
        "kdcam.recipes": ["**/*.toml"],
        "kdcam.report": ["report.html.j2"],
    }
    assert files("kdcam.report").joinpath("report.html.j2").is_file()
    assert files("kdcam").joinpath("py.typed").is_file()
    assert files("kdcam.recipes").joinpath("digits.toml").is_file()


def test_console_script_is_there() -> None:
    (script,) = entry_points(group="console_scripts", name="kdcam")
    assert script.value == "kdcam.cli.main:main"


@pytest.mark.parametrize("module", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_library_never_imports_the_command_line(module: Path) -> None:
    tree = ast.parse(module.read_text())
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and node.level == 0
            else []
        )
    }
    assert not any(name == "cli" or name.startswith(("cli.", "kdcam.cli")) for name in imported)


@pytest.mark.parametrize(
    "module", sorted(ROOT.glob("kdcam/**/*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_public_names_are_listed(module: Path) -> None:
    tree = ast.parse(module.read_text())
    listed = [
        [element.value for element in node.value.elts if isinstance(element, ast.Constant)]
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.List)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    ]
    public = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    }
    names = set(listed[0]) if listed else set()
    assert public <= names
