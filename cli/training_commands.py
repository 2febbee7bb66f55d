"""What `train`, `distill` and `finetune` share: the recipe is read, run or only checked, and the result shown."""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from kdcam import api
from kdcam.blocks.document import Table
from kdcam.data.datasets import decode_sample
from kdcam.models.layer_groups import frozen_stages
from kdcam.recipe.train_recipe import Command, TrainRecipe, check_command, load_recipe
from kdcam.runs.run_files import find_state
from kdcam.runtime.machine import thread_advice
from kdcam.runtime.memory import keep_freed_memory
from kdcam.runtime.precision import pick_device
from kdcam.runtime.progress import Progress
from kdcam.scores.main_scores import score_text
from kdcam.training.preflight import CheckedRun, preflight
from kdcam.training.starting_point import load_to_finetune
from kdcam.training.teachers.cached_teacher import cache_forecast

from . import render

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LEFT_OUT = ("mean_class_acc",)  # so that the table fits 80 columns; result.json and `kdcam evaluate` have it


class RunOptions(NamedTuple):
    """The flags of a training command."""

    overrides: Sequence[str]
    output: Path | None
    device: str
    resume: Literal["auto", "never"]
    dry_run: bool
    as_json: bool
    quiet: bool
    method: str | None = None  # of distillation; None: as the recipe says


def overrides(
    sets: Sequence[str], *, teachers: Sequence[str] = (), start: str | None = None, seed: int | None = None
) -> list[str]:
    """Return the changes to a recipe in the order in which they count: ``--set``, then dedicated flags."""
    changes = list(sets)
    quoted = [json.dumps(one, ensure_ascii=False) for one in teachers]  # a path is never a number
    if len(quoted) == 1:
        changes.append(f"teacher.checkpoint={quoted[0]}")
    elif quoted:
        changes.append(f"teacher=[{', '.join(f'{{checkpoint={one}}}' for one in quoted)}]")
    if start is not None:
        changes.append(f"init.checkpoint={json.dumps(start, ensure_ascii=False)}")
    if seed is not None:
        changes.append(f"seed={seed}")
    return changes


def run_recipe(name: str, options: RunOptions, *, command: Command) -> None:
    """Run a recipe, or with ``dry_run`` check it only, and show what came out.

    Raises ``KdcamError`` subclasses: see `kdcam.train`.
    """
    recipe, note = _loaded(name, options, command)
    check_command(recipe, command)
    folder = options.output or api.default_run_folder(recipe)
    if note is not None and not options.quiet:
        render.show_notice(note)
    if options.dry_run:
        _show_plan(preflight(recipe, device=options.device, fetches=False), folder, options)
        return
    run = {"train": api.train, "distill": api.distill, "finetune": api.finetune}[command]
    keep_freed_memory()
    with render.watching(quiet=options.quiet) as progress:
        _hint_at_threads(options.device, progress)
        done = run(
            recipe,
            output=folder,
            device=options.device,
            resume=options.resume,
            command=("kdcam", *sys.argv[1:]),
            progress=progress,
        )
    if options.as_json:
        render.show_json({"run": str(done.path), "was_finished": done.was_finished, **done.result})
        return
    state = "was finished before; its result" if done.was_finished else "finished"
    render.show_table(result_table(done.result, title=f"{done.path} {state}"))
    render.show_text(f"selected: {done.result['selection']}")
    published = done.result.get("published")
    if published is not None:
        render.show_text(f"published: {published['accuracy']:g}% ({published['source']})")


def _hint_at_threads(device: str, progress: Progress) -> None:

    advice = thread_advice(torch.get_num_threads()) if pick_device(device).type == "cpu" else None
    if advice is not None:
        progress.message(advice)


def _loaded(name: str, options: RunOptions, command: Command) -> tuple[TrainRecipe, str | None]:
    """Return a command's recipe and what the user should know of how it was read."""
    if command == "finetune":
        return load_to_finetune(name, options.overrides)
    return load_recipe(name, options.overrides, method=options.method), None


def _show_plan(checked: CheckedRun, folder: Path, options: RunOptions) -> None:
    recipe = checked.recipe.model_dump(mode="json", exclude_none=True)
    facts = {
        "output": str(folder),
        "output_holds": {"new": "no run", "unfinished": "an unfinished run", "finished": "a finished run"}[
            find_state(folder)
        ],
        "device": str(checked.precision.device),
        "precision": str(checked.precision.dtype).removeprefix("torch."),
        "data": checked.summary.note,
        "pictures": decode_sample(checked.recipe.data),
        "classes": len(checked.summary.label_names),
        "train_images": checked.summary.train_images,
        "student_parameters": _parameters(checked.student),
        "frozen_parameters": _frozen(checked),
        "teacher_parameters": sum(_parameters(teacher) for teacher in checked.teachers) or None,
        "teacher_cache": cache_forecast(checked),
    }
    notes = [note for network in (checked.student, *checked.teachers) for note in network.notes]
    for text in checked.warnings:
        render.show_notice(f"warning: {text}")
    if options.as_json:
        render.show_json({**facts, "notes": notes, "warnings": checked.warnings, "recipe": recipe})
        return
    if not options.quiet:
        for name, value in facts.items():
            label = name.replace("_", " ")
            if value is not None:
                render.show_notice(f"{label}: {value:,}" if isinstance(value, int) else f"{label}: {value}")
        for note in notes:
            render.show_notice(note)
    render.show_page(toml_text(recipe))


def _parameters(network: Any) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _frozen(checked: CheckedRun) -> int | None:
    """Return how many of the student's parameters do not learn at first; None: all do."""
    init = checked.recipe.init
    frozen = None if init is None else frozen_stages(checked.student, init)
    return None if frozen is None else sum(parameter.numel() for parameter in frozen.parameters)


def result_table(result: Mapping[str, Any], *, title: str) -> Table:
    """Return a table of a run's scores: a row for each kind of weights and part of the data."""
    rows = [
        (weights, str(result[weights]["epoch"]), part, result["images"][part], result[weights][part])
        for weights in ("selected", "last")
        for part in ("validation", "test")
        if result[weights].get(part) is not None
    ]
    names = [
        name
        for name in dict.fromkeys(name for *_, scores in rows for name in scores)
        if name not in _LEFT_OUT
    ]
    return Table(
        ("weights", "epoch", "part", "images", *names),
        [
            (
                weights,
                epoch,
                part,
                f"{images:,}",
                *(score_text(name, scores.get(name)) for name in names),
            )
            for weights, epoch, part, images, scores in rows
        ],
        title=title,
        left=3,
    )


def toml_text(table: Mapping[str, Any]) -> str:
    """Return a table as TOML, ``name`` first in each table, without the keys that are None."""
    return "\n".join(_toml_lines(table, "")).strip("\n") + "\n"


def _toml_lines(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield plain values first: in TOML they would belong to the table before them otherwise."""
    named = {"name": table["name"], **table} if "name" in table else table
    present = {key: value for key, value in named.items() if value is not None}
    for key, value in present.items():
        if not _is_table(value) and not _is_tables(value):
            yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in present.items():
        path = prefix + _toml_key(key)
        if _is_table(value):
            yield from ("", f"[{path}]", *_toml_lines(value, path + "."))
        elif _is_tables(value):
            for item in value:
                yield from ("", f"[[{path}]]", *_toml_lines(item, path + "."))


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return _is_list(value) and len(value) > 0 and all(_is_table(item) for item in value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _toml_value(value: Any) -> str:
    if _is_list(value):
        return f"[{', '.join(_toml_value(item) for item in value)}]"
    # JSON's texts, numbers and booleans are TOML's too, but for one character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


__all__ = [
    "RunOptions",
    "overrides",
    "result_table",
    "run_recipe",
    "toml_text",
]
