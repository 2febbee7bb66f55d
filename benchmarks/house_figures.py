"""Whether the library is in order, in numbers: files, lines, circles of imports, names with two homes.

    python benchmarks/house_figures.py [CHECKOUT] [--names]

Imports are those of the text: at the top of a file, in functions, and under TYPE_CHECKING. docs/decisions/029 has the
numbers before and after the modules moved to their rooms.
"""

import argparse
import ast
import json
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# One entry of a list a file: what is short there has one importer by design.
TABLES = (
    "kdcam/attacks",
    "kdcam/corruptions",
    "kdcam/data/sources",
    "kdcam/losses",
    "kdcam/models/networks",
    "kdcam/report/sections",
)
SHORT_MODULE = 100  # lines
LONG_FUNCTION = 60  # lines, signature and docstring aside

Arrows = dict[str, set[str]]
"""Module -> those that it imports."""


@dataclass(frozen=True)
class Module:
    """A file of the library or of its commands."""

    name: str
    path: str  # from the checkout on
    lines: int
    tree: ast.Module

    @property
    def is_face(self) -> bool:
        """Whether it is a package's __init__.py."""
        return self.path.endswith("/__init__.py")

    @property
    def is_library(self) -> bool:
        """Whether it is no command's."""
        return self.path.startswith("kdcam/")

    @property
    def folder(self) -> str:
        """Return the path of its folder."""
        return self.path.rpartition("/")[0]

    def definitions(self) -> set[str]:
        """Return the names that it defines at its top level."""
        return {name for statement in self.tree.body for name in _defined(statement)}

    def functions(self) -> list[ast.FunctionDef]:
        """Return its functions and methods, inner ones too."""
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]

    def imports(self, modules: "Modules") -> Iterator[tuple[str, str | None]]:
        """Yield (module, name in it or None) of each import of the library's own."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, None) for alias in node.names if alias.name in modules)
            elif isinstance(node, ast.ImportFrom) and (source := _source(node)) in modules:
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    yield (inner, None) if inner in modules else (source, alias.name)


Modules = dict[str, Module]
"""Dotted name -> module."""


def _defined(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        return {target.id for target in statement.targets if isinstance(target, ast.Name)}
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return {statement.target.id}
    if isinstance(statement, ast.If | ast.Try):
        return {name for inner in statement.body for name in _defined(inner)}
    return set()


def _source(node: ast.ImportFrom) -> str:
    """Return the module that an import names; the only relative ones are those of cli/, a flat folder."""
    if not node.level:
        return node.module or ""
    return f"kdcam.cli.{node.module}" if node.module else "kdcam.cli"


def read_modules(checkout: Path) -> Modules:
    """Return the modules of a checkout's library and of its commands."""
    found = {}
    for path in sorted([*checkout.glob("kdcam/**/*.py"), *checkout.glob("cli/*.py")]):
        place = path.relative_to(checkout)
        parts = place.with_suffix("").parts
        if parts[0] == "cli":  # it is installed as kdcam.cli
            parts = ("kdcam", *parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, place.as_posix(), len(text.splitlines()), ast.parse(text))
    return found


def arrows_of(modules: Modules) -> Arrows:
    """Return what each module imports of the library and its commands."""
    return {
        name: {there for there, _ in module.imports(modules)} - {name} for name, module in modules.items()
    }


def circles(arrows: Arrows) -> list[str]:
    """Return the groups of modules that reach one another (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    groups: list[str] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for there in sorted(arrows[name]):
            if there not in index:
                visit(there)
                lowest[name] = min(lowest[name], lowest[there])
            elif there in stack:
                lowest[name] = min(lowest[name], index[there])
        if lowest[name] == index[name]:
            start = stack.index(name)
            if len(stack) > start + 1:
                groups.append(" <-> ".join(sorted(stack[start:])))
            del stack[start:]

    for name in arrows:
        if name not in index:
            visit(name)
    return groups


def room_levels(checkout: Path) -> dict[str, int]:
    """Return how high each room stands by the import rule of pyproject.toml: 0 is the lowest line."""
    tools = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    contracts = tools.get("importlinter", {}).get("contracts", [])
    lines = [line for contract in contracts if contract["type"] == "layers" for line in contract["layers"]]
    lines = ["cli", *lines] if lines else []
    return {
        room.strip(): level
        for level, line in enumerate(reversed(lines))
        for room in line.replace(":", "|").split("|")
    }


def upward_imports(arrows: Arrows, levels: dict[str, int]) -> list[str]:
    """Return the imports of a room that stands higher."""

    def level(module: str) -> int | None:
        room = module.split(".")[1:2]
        return levels.get(room[0]) if room else None

    return [
        f"{name} -> {target}"
        for name, targets in arrows.items()
        for target in sorted(targets)
        if (here := level(name)) is not None and (there := level(target)) is not None and there > here
    ]


def short_modules_with_one_importer(modules: Modules, arrows: Arrows) -> list[str]:
    """Return the library's short modules that one other imports, packages' faces aside, and no table lists."""
    importers = defaultdict(set)
    for name, targets in arrows.items():
        if not modules[name].is_face:
            for target in targets:
                importers[target].add(name)
    return [
        f"{name} ({module.lines} lines) <- {next(iter(importers[name]))}"
        for name, module in modules.items()
        if module.is_library
        and not module.is_face
        and module.lines < SHORT_MODULE
        and module.folder not in TABLES
        and len(importers[name]) == 1
    ]


def names_with_two_homes(modules: Modules) -> list[str]:
    """Return the names that are imported from a module (no package's face) that only imports them itself."""
    return sorted(
        {
            f"{there}.{name}"
            for module in modules.values()
            for there, name in module.imports(modules)
            if name and not modules[there].is_face and name not in modules[there].definitions()
        }
    )


def names_defined_twice(modules: Modules) -> list[str]:
    """Return the public names that two modules of the library define."""
    homes = defaultdict(list)
    for module in modules.values():
        if module.is_library:
            for name in module.definitions():
                homes[name].append(module.name)
    return sorted(
        f"{name}: {', '.join(found)}"
        for name, found in homes.items()
        if len(found) > 1 and not name.startswith("_")
    )


def file_names_used_twice(modules: Modules) -> list[str]:
    """Return the file names that several modules of the library have."""
    counts = Counter(
        module.path.rpartition("/")[2]
        for module in modules.values()
        if module.is_library and not module.is_face
    )
    return sorted(f"{name} x{count}" for name, count in counts.items() if count > 1)


def files_named_as_their_folder(modules: Modules) -> list[str]:
    """Return the files that repeat their folder's name."""
    return [
        module.path
        for module in modules.values()
        if not module.is_face and module.name.split(".")[-1] == module.folder.rpartition("/")[2]
    ]


def lazy_imports(modules: Modules) -> list[str]:
    """Return the imports in functions of the library."""
    return sorted(
        {
            f"{module.path}:{node.lineno}"
            for module in modules.values()
            if module.is_library
            for function in module.functions()
            for node in ast.walk(function)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
    )


def long_functions(modules: Modules) -> list[str]:
    """Return the functions of library and commands whose bodies are long, docstrings aside."""
    return [
        f"{module.path}:{function.lineno} {function.name} ({length} lines)"
        for module in modules.values()
        for function in module.functions()
        if (length := _body_length(function)) > LONG_FUNCTION
    ]


def _body_length(function: ast.FunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function, clean=False) else function.body
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1 if body else 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--names", action="store_true", help="list what was counted")
    arguments = parser.parse_args()
    modules = read_modules(arguments.checkout)
    arrows = arrows_of(modules)
    library = [module for module in modules.values() if module.is_library]
    found = {
        "import circles": circles(arrows),
        "upward imports": upward_imports(arrows, room_levels(arguments.checkout)),
        "short modules with one importer": short_modules_with_one_importer(modules, arrows),
        "names with two homes": names_with_two_homes(modules),
        "names defined twice": names_defined_twice(modules),
        "file names used twice": file_names_used_twice(modules),
        "files named as their folder": files_named_as_their_folder(modules),
        "imports in functions": lazy_imports(modules),
        "functions over 60 lines": long_functions(modules),
    }
    if arguments.names:
        for what, names in found.items():
            print(f"{what}:", *names, sep="\n  ")
    figures = {
        "files flat in kdcam/": sum(module.folder == "kdcam" for module in library),
        "library files": len(library),
        "library lines": sum(module.lines for module in library),
        **{what: len(names) for what, names in found.items()},
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
