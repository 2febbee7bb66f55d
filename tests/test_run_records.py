"""The JSON files of a run folder with another value at each place: each reader refuses in one line or reads right."""

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import small_recipe

import kdcam
from kdcam.comparison.table.run_measures import read_run
from kdcam.errors import KdcamError
from kdcam.evaluation.robustness.memorisation import label_noise_report
from kdcam.models.weights.starting_weights import learned_other_classes, stored_statistics
from kdcam.report.reported_run import read_reported
from kdcam.report.sections.reproducibility import reproducibility_section
from kdcam.report.sections.scores import score_section
from kdcam.runs.checkpoint import load_classifier
from kdcam.runs.open_run import load_run
from kdcam.runs.provenance import provenance_of

OTHERS: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    0.5,
    "",
    "other",
    [],
    [None],
    {},
    {"x": 1},
    [[1]],
    "\u202e",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "small"
    kdcam.train(small_recipe(epochs=1), output=folder, device="cpu")
    return folder


def places(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each value in a document."""
    yield ()
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from ((key, *path) for path in places(item))


def changed(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a document with another value at a place; without the key where ``value`` is ``Ellipsis``."""
    if not path:
        return {} if value is ... else value
    document = copy.deepcopy(document)
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return document


def variants(document: Any, *, count: int) -> Iterator[Any]:
    """Yield documents with one place changed, drawn from all places and values and from those that lack a key."""
    rng = random.Random(0)
    paths = list(places(document))
    for _ in range(count):
        yield changed(document, rng.choice(paths), rng.choice(OTHERS))


def assert_refused_or_read(read: Callable[[], object]) -> bool:
    """Return whether a reader read; its refusal is one line."""
    try:
        read()
    except KdcamError as error:
        assert "\n" not in str(error) or "problems:\n" in str(error)
        return False
    return True


def reported(folder: Path) -> object:
    """Return the sections of a report that are no pictures."""
    found = read_reported(folder, "run")
    return score_section(found), reproducibility_section([found])


def readers_of(name: str, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what reads a file of a run folder, without training."""
    report = {
        "report": lambda: reported(folder),
        "comparison": lambda: read_run(folder),
    }
    everywhere: dict[str, dict[str, Callable[[], object]]] = {
        "recipe.json": {
            **report,
            "recipe": lambda: kdcam.runs.open_run.recipe_of(folder),
            "origins": lambda: provenance_of(folder),
        },
        "result.json": {**report, "noise": lambda: label_noise_report(folder)},
        "metrics.jsonl": {**report, "noise": lambda: label_noise_report(folder)},
        "config.json": {
            "classifier": lambda: load_classifier(folder),
            "origins": lambda: provenance_of(folder),
            "statistics": lambda: stored_statistics(str(folder), "kdcam:resnet8_s2"),
            "classes": lambda: learned_other_classes(str(folder), ["0", "1"], "single-label"),
        },
    }
    return everywhere[name]


@pytest.mark.parametrize(
    ("name", "count"), [("recipe.json", 40), ("result.json", 40), ("metrics.jsonl", 40), ("config.json", 60)]
)
def test_another_value_at_each_place(run: Path, tmp_path: Path, name: str, count: int) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    whole = (run / name).read_text(encoding="utf-8")
    counts = {True: 0, False: 0}
    for document in variants(json.loads(whole), count=count):
        (folder / name).write_text(json.dumps(document) + "\n", encoding="utf-8")
        for read in readers_of(name, folder).values():
            counts[assert_refused_or_read(read)] += 1
    assert min(counts.values()) > count / 10


@pytest.mark.parametrize("name", ["recipe.json", "result.json"])
def test_a_run_is_gone_on_with_or_scored_or_refused(run: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    document = json.loads((run / name).read_text(encoding="utf-8"))
    tops = [path for path in places(document) if len(path) <= 1]
    for path in tops:
        (folder / name).write_text(json.dumps(changed(document, path, ...)), encoding="utf-8")
        assert_refused_or_read(lambda: load_run(folder, device="cpu"))
        assert_refused_or_read(lambda: kdcam.train(small_recipe(epochs=1), output=folder, device="cpu"))
