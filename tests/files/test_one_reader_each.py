"""All of kdcam reads files of users by `kdcam.files`, and asks about paths by `kdcam.files.paths`."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# By file and call: what may stand there, and why.
ALLOWED = {
    ("kdcam/runs/checkpoint.py", "json.loads"),  # the header of a state, in which a number may be infinite
    ("kdcam/comparison/workers/worker_main.py", "json.loads"),  # what kdcam's own processes tell each other
    ("kdcam/comparison/workers/local_process.py", "json.loads"),
    ("kdcam/recipe/recipe_files.py", "entry.read_text"),  # files of the package
    ("kdcam/recipe/recipe_files.py", "entry.is_dir"),
    ("kdcam/report/html_report.py", ".read_text"),
    ("kdcam/runtime/machine.py", ".read_text"),  # /proc and /sys
    ("kdcam/runtime/machine.py", "file.read_text"),
    ("kdcam/data/sources/digits.py", "gzip.open"),  # a file of scikit-learn
    ("kdcam/data/sources/mnist.py", "gzip.open"),  # bounded by the shape in its header
    ("kdcam/data/sources/omniglot.py", "entry.is_dir"),  # members of a zip file
    ("kdcam/data/sources/omniglot.py", "file.is_file"),
    ("kdcam/data/sources/omniglot.py", "inner.is_dir"),
    ("kdcam/data/sources/omniglot.py", "pictures.is_dir"),
    # of os.scandir, without another question to the disk
    ("kdcam/evaluation/robustness/section_keys.py", "entry.is_dir"),
}
PARSERS = {
    "json": {"load", "loads"},
    "tomllib": {"load", "loads"},
    "csv": {"reader", "DictReader"},
    "yaml": {"load", "load_all", "safe_load", "safe_load_all", "compose", "parse"},
    "gzip": {"open", "decompress", "GzipFile"},
}
QUESTIONS = {"exists", "is_file", "is_dir", "expanduser", "resolve", "isfile", "isdir"}


def calls(tree: ast.AST) -> Iterator[tuple[str, str, ast.Call]]:
    """Yield the name of what is asked (empty: an expression), the method and the call of each call of a method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            value = node.func.value
            yield (value.id if isinstance(value, ast.Name) else "", node.func.attr, node)


def is_text_mode(call: ast.Call) -> bool:
    """Return whether a call of ``open`` reads or writes text."""
    names = {keyword.arg for keyword in call.keywords}
    modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    return bool(names & {"encoding", "newline"}) or "rt" in modes or "r" in modes


def bare(source: str) -> set[str]:
    """Return the calls in a module that go past `kdcam.files`."""
    found = set()
    for owner, method, call in calls(ast.parse(source)):
        if (
            method in PARSERS.get(owner, ())
            or method in QUESTIONS
            or method == "read_text"
            or (method == "open" and is_text_mode(call))
        ):
            found.add(f"{owner}.{method}")
    return found


def test_no_other_place_parses_files_or_asks_about_paths() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), call)
        for folder in ("kdcam", "cli")
        for path in (ROOT / folder).rglob("*.py")
        if path.parent.name != "files"
        for call in bare(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED


def test_the_rule_sees_what_it_is_for() -> None:
    seen = {
        "import json\njson.loads(text)": "json.loads",
        "import tomllib\ntomllib.load(file)": "tomllib.load",
        "import csv\ncsv.DictReader(file)": "csv.DictReader",
        "import yaml\nyaml.safe_load(text)": "yaml.safe_load",
        "path.is_file()": "path.is_file",
        "(folder / name).exists()": ".exists",
        "os.path.isdir(name)": ".isdir",
        "path.expanduser()": "path.expanduser",
        "path.resolve()": "path.resolve",
        "path.open(encoding='utf-8')": "path.open",
        "path.read_text()": "path.read_text",
    }
    for source, call in seen.items():
        assert bare(source) == {call}
    assert bare("exists(path)\npath.open('rb')\njson.dumps(1)") == set()
