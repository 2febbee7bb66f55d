"""The house (docs/decisions/029): rooms and their names, the order of imports, and the pages that describe them."""

import ast
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from io import StringIO
from itertools import pairwise
from pathlib import Path

import grimp
import pytest

import kdcam

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text()
LIBRARY = sorted((ROOT / "kdcam").rglob("*.py"))
DECISIONS = sorted((ROOT / "docs/decisions").glob("[0-9]*.md"))
MOST_FLAT_FILES = 6


def import_circle(*packages: str) -> list[str]:
    """Return modules of which each is imported by the next, from one to itself; empty: there are none.

    Imports in functions and under TYPE_CHECKING count.
    """
    graph = grimp.build_graph(*packages, cache_dir=None)
    arrows = {module: graph.find_modules_directly_imported_by(module) for module in sorted(graph.modules)}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_file_reaches_itself_by_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    circle = import_circle("kdcam", "cli")
    assert not circle, " -> ".join(reversed(circle))


@pytest.mark.parametrize(
    "back",
    [
        "from . import one",
        "def later():\n    from made_up_house.one import ONE",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import made_up_house.one",
        "class Later:\n    def now(self):\n        import made_up_house.one as one",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(
    back: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = tmp_path / "made_up_house"
    house.mkdir()
    (house / "__init__.py").write_text("")
    (house / "one.py").write_text("from made_up_house.two import TWO\nONE = 1\n")
    (house / "two.py").write_text(f"{back}\nTWO = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {*import_circle("made_up_house")} == {"made_up_house.one", "made_up_house.two"}


def test_public_names_are_callable_after_every_module_is_imported() -> None:
    """A room with the name of a public function would take its place in the package."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in LIBRARY
    ]
    modules = [name for name in names if not name.endswith("__main__")]
    functions = [name for name in kdcam.__all__ if not name.isupper() and not name.startswith("__")]
    code = (
        "import importlib, kdcam\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        f"print([name for name in {functions} if not callable(getattr(kdcam, name))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_no_room_and_no_module_has_the_name_of_a_public_function() -> None:
    places = [*LIBRARY, *(path.parent for path in LIBRARY)]
    assert not {path.stem for path in places} & {name for name in kdcam.__all__ if name.islower()}


def test_few_files_lie_flat() -> None:
    flat = [path.name for path in (ROOT / "kdcam").glob("*.py")]
    assert len(flat) <= MOST_FLAT_FILES, flat


def test_no_file_repeats_the_name_of_its_folder() -> None:
    assert not [path for path in LIBRARY if path.stem == path.parent.name]


def reasonless_imports(text: str) -> Iterator[int]:
    """Yield the lines of imports in functions that have no reason in a comment.

    It stands on the import or above it, and holds for the imports that follow at once; for those of a match it may
    stand above that.
    """
    comments = {
        token.start[0]: token.line.lstrip().startswith("#")
        for token in tokenize.generate_tokens(StringIO(text).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# type:"))
    }
    lazy, matches = dict[int, ast.stmt](), list[ast.Match]()
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    lazy[node.lineno] = node
                elif isinstance(node, ast.Match):
                    matches.append(node)
    explained = set[int]()  # the lines below imports with a reason
    for line, node in sorted(lazy.items()):
        last = node.end_lineno or line
        above = [line, *(one.lineno for one in matches if one.lineno < line <= (one.end_lineno or 0))]
        if (
            any(place in comments for place in range(line, last + 1))
            or any(comments.get(place - 1) for place in above)
            or line in explained
        ):
            explained.add(last + 1)
        else:
            yield line


def test_every_import_in_a_function_has_its_reason() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in LIBRARY
        for line in reasonless_imports(path.read_text())
    ]
    assert not found, f"{len(found)} imports in functions without a comment that says why: {found}"


def test_which_comments_are_reasons() -> None:
    text = (
        "def one():\n"
        "    import a\n"  # 2: none
        "    import b  # noqa: F401\n"  # 3: none
        "    # why\n"
        "    import c\n"
        "    import d\n"
        "\n"
        "    import e\n"  # 8: none
        "    from f import (\n        g,  # why\n    )\n"
        "    # why\n"
        "    match a:\n        case 1:\n            import h\n"
        "    call()  # not of the import\n"
        "    import i\n"  # 17: none
    )
    assert list(reasonless_imports(text)) == [2, 3, 8, 17]


# What the page names: a path, from the checkout or from kdcam/ on, and a name in that file.
_NAMED = re.compile(
    r"(?<![\w./-])((?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml)|(?:[\w.-]+/)+(?:run)?)(?::(\w+(?:\.\w+)?))?"
)


def page_blocks() -> list[str]:
    """Return the page's blocks of text as it stands: the tree, the order of imports, and the flows."""
    return re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)


def paths_of_tree() -> list[str]:
    """Return the paths in the page's tree, from the checkout on."""
    found, above = [], list[str]()
    for line in page_blocks()[0].splitlines():
        name = line.split()[0]
        del above[(len(line) - len(line.lstrip())) // 2 :]
        above.append(name)
        found.append("".join(above))
    return found


def defined_names(file: Path) -> set[str]:
    """Return what a file defines at its top level, and the methods of its classes as Class.method."""
    found = set[str]()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)
            }
        if isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


def test_what_the_page_names_is_there() -> None:
    named = [found.groups() for found in _NAMED.finditer(PAGE.replace(page_blocks()[0], ""))]
    assert len(named) > 80
    gone = []
    for path, name in named:
        places = [place for place in (ROOT / path, ROOT / "kdcam" / path) if place.exists()]
        if not places or (name is not None and name not in defined_names(places[0])):
            gone.append(path if name is None else f"{path}:{name}")
    assert not gone, gone


def test_the_tree_has_every_room_and_nothing_else() -> None:
    paths = paths_of_tree()
    assert not [path for path in paths if not (ROOT / path).exists()]
    rooms = {f"{path.parent.relative_to(ROOT)}/" for path in LIBRARY}
    flat = {f"kdcam/{path.name}" for path in LIBRARY if path.parent.name == "kdcam"}
    drawn = {path for path in paths if path.startswith("kdcam/")}
    assert drawn == rooms | flat - {"kdcam/__init__.py", "kdcam/__main__.py"}


def test_the_page_has_the_order_of_imports_that_is_checked() -> None:
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert page_blocks()[1].splitlines() == ["cli", *contract["layers"]]


def test_the_index_of_decisions_has_each_with_its_title() -> None:
    index = (ROOT / "docs/decisions/README.md").read_text().splitlines()
    titles = [page.read_text().splitlines()[0].removeprefix("# ") for page in DECISIONS]
    listed = [f"- [{title}]({page.name})" for title, page in zip(titles, DECISIONS, strict=True)]
    assert [line for line in index if line.startswith("-")] == listed
    numbers = [int(page.name[:3]) for page in DECISIONS]
    assert all(after == before + 1 for before, after in pairwise(numbers))
    assert all(title.startswith(f"{page.name[:3]}: ") for title, page in zip(titles, DECISIONS, strict=True))


def test_every_decision_is_cited_and_every_citation_is_a_decision() -> None:
    files = [path for room in ("kdcam", "cli", "tests") for path in (ROOT / room).rglob("*.py")]
    texts = [path.read_text() for path in [*files, *(ROOT / ".ci").iterdir()]]
    cited = {number for text in texts for number in re.findall(r"docs/decisions/(\d{3})", text)}
    assert cited == {page.name[:3] for page in DECISIONS}


# As prose names them: a path that begins with a folder of the checkout, and a dotted name in the library.
_PATH = re.compile(r"(?<![\w./-])(?:kdcam|cli|recipes|tests|benchmarks|docs|\.ci)/[\w./-]*\w")
_DOTTED = re.compile(r"(?<![\w./-])kdcam(?:\.[a-z]\w*)+")
_OTHER = {
    "docs/results/abc",  # a user's, in an example
    "kdcam.json",  # a file in an archive
    "kdcam.recipes",  # the folder recipes/
    "kdcam.sha256",  # an entry of a file's metadata
}


def is_dotted_name(name: str) -> bool:
    """Return whether a dotted name is a module's, or that of something defined there or public."""
    parts = name.split(".")
    if len(parts) == 2 and parts[1] in kdcam.__all__:
        return True
    for known in range(len(parts), 1, -1):
        place, inner = ROOT.joinpath(*parts[:known]), ".".join(parts[known:])
        if parts[1] == "cli":
            place = ROOT.joinpath(*parts[1:known])
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if file.exists():
            return not inner or inner in defined_names(file) or f'"{inner}"' in file.read_text()
    return False


def test_pages_and_comments_name_what_is_there() -> None:
    code = [path for room in ("kdcam", "cli", "benchmarks") for path in (ROOT / room).rglob("*.py")]
    gone = []
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *code]:
        text = page.read_text()
        # A decision is cited by its number.
        found = [path for path in _PATH.findall(text) if not any(ROOT.glob(f"{path}*"))]
        if page.parent.name == "benchmarks":
            found = [path for path in found if not path.startswith("docs/results/")]  # what it will write
        found += [name for name in _DOTTED.findall(text) if not is_dotted_name(name)]
        gone += [f"{page.relative_to(ROOT)}: {name}" for name in found if name not in _OTHER]
    assert not gone, gone


def test_benchmarks_import_what_is_there() -> None:
    """No other check imports them."""
    found = [
        f"{node.module}.{alias.name}"
        for path in (ROOT / "benchmarks").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdcam")
        for alias in node.names
    ]
    assert found
    gone = [name for name in found if not is_dotted_name(name)]
    assert not gone, gone
