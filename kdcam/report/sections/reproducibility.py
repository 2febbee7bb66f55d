"""How runs were made: recipe, command, seed, machine, versions, time; and where the recipes of several differ."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from math import fsum
from statistics import median
from typing import Any

from kdcam.blocks.document import MISSING, Block, Facts, FoldedText, Section, Table
from kdcam.files.json_files import layout_errors, read_json
from kdcam.files.paths import is_file
from kdcam.files.weight_location import CONFIG_FILE
from kdcam.report.reported_run import ReportedRun
from kdcam.runs.run_files import METRICS_FILE, RECIPE_FILE, RESULT_FILE
from kdcam.settings.messages import duration_text, listed

_NO_DIFFERENCE = ("description", "published")


def reproducibility_section(runs: Sequence[ReportedRun]) -> Section:
    """Return what is needed to make the runs again."""
    blocks: list[Block] = []
    for run in runs:
        blocks.append(Facts(tuple(_facts(run)), title="" if len(runs) == 1 else run.name))
        recipe = json.dumps(run.recipe, indent=2, ensure_ascii=False)
        blocks.append(FoldedText("The whole recipe, as resolved", recipe))
    return Section("How it was made" if len(runs) == 1 else "How they were made", tuple(blocks))


def _facts(run: ReportedRun) -> Iterator[tuple[str, str]]:
    record, recipe = run.record, run.recipe
    with layout_errors(run.folder / RECIPE_FILE):
        if recipe.get("description"):
            yield "description", str(recipe["description"])
        if record["command"]:
            yield "command", shlex.join(record["command"])
        yield "seed", str(record["seed"])
        if (network := _network(run)) is not None:
            yield "network", network
        yield from _start(recipe.get("init") or {})
        yield "data", str(recipe["data"]["name"])
        yield "losses", listed(f"{loss['weight']:g} * {loss['name']}" for loss in recipe["loss"])
        if recipe.get("teacher"):
            yield "teacher", _teachers(recipe["teacher"])
        if run.result is not None and "probe" in run.result:
            yield "classifier", str(run.result["selection"]).partition(";")[0]  # solved, without steps
        else:
            yield "optimiser", f"{recipe['optimizer']['name']}, lr {recipe['optimizer']['lr']:g}"
            yield "batch size", str(recipe["batch_size"])
    yield from _measured(run)
    with layout_errors(run.folder / RECIPE_FILE):
        machine = record["machine"].items()
        yield "machine", listed(f"{value} cores" if name == "cores" else value for name, value in machine)
        versions = [(name, found) for name, found in record["versions"].items() if found is not None]
        yield "versions", listed(f"{name} {found}" for name, found in versions)


def _network(run: ReportedRun) -> str | None:
    """Return a network's name; None of a fine-tuning that has kept no weights yet: its start would tell it."""
    name = run.recipe["model"].get("name")
    file = run.folder / CONFIG_FILE
    if name is None and is_file(file):
        with layout_errors(file):
            name = read_json(file)["kdcam"]["model"]["name"]
    return None if name is None else str(name)


def _start(init: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a fine-tuning began with; of its settings those that change anything."""
    if init:
        yield "start", str(init["checkpoint"])
        if init["frozen"] != "none":
            stages = init["frozen"]
            yield (
                "frozen",
                "all but the classifier" if stages == "all" else f"stem and {stages} of its stages",
            )
        if init["unfreeze"] < 1:
            yield "unfrozen", f"after {init['unfreeze']:g} of the run"
        if init["layer_decay"] < 1:
            yield "layer decay", f"{init['layer_decay']:g}"


def _teachers(tables: Any) -> str:
    return listed(one["checkpoint"] for one in (tables if isinstance(tables, list) else [tables]))


def _measured(run: ReportedRun) -> Iterator[tuple[str, str]]:
    if run.result is not None:
        with layout_errors(run.folder / RESULT_FILE):
            yield "parameters", f"{run.result['parameters']:,}"
            yield "images", listed(f"{part} {count:,}" for part, count in run.result["images"].items())
    if run.epochs:
        with layout_errors(run.folder / METRICS_FILE):
            seconds = fsum(float(epoch["seconds"]) for epoch in run.epochs)
            throughput = median(float(epoch["images_per_second"]) for epoch in run.epochs)
            solved = run.result is not None and "probe" in run.result
            yield (
                "training",
                f"{duration_text(seconds)} for features and fits"
                if solved
                else f"{duration_text(seconds)} in {len(run.epochs)} epochs, {throughput:,.0f} images/s (median)",
            )


def difference_section(runs: Sequence[ReportedRun]) -> Section:
    """Return the keys in which the recipes, seeds, machines and versions of several runs differ."""
    known = [_flat(run) for run in runs]
    names = dict.fromkeys(name for one in known for name in one)
    differ = [name for name in names if len({one.get(name, MISSING) for one in known}) > 1]
    rows = [(name, *(one.get(name, MISSING) for one in known)) for name in differ]
    return Section("Where they differ", (Table(("key", *(run.name for run in runs)), rows),) if rows else ())


def _flat(run: ReportedRun) -> dict[str, str]:
    with layout_errors(run.folder / RECIPE_FILE):
        recipe = {key: value for key, value in run.recipe.items() if key not in _NO_DIFFERENCE}
        others = {"machine": run.record["machine"], "versions": run.record["versions"]}
        return dict(_leaves({**recipe, "seed": run.record["seed"], **others}, ""))


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{key}[{_name(item, index)}]")
    elif value is not None:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _name(item: Any, index: int) -> str:
    return str(item.get("name", index)) if isinstance(item, Mapping) else str(index)


__all__ = ["difference_section", "reproducibility_section"]
