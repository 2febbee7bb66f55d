"""Run folders and measures with made-up numbers, for tests of tables."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdcam.comparison.plan.comparison_plan import ComparisonPlan, PlannedRow
from kdcam.comparison.table.run_measures import (
    AgreementScores,
    PartScores,
    RunMeasures,
    StoredEvaluation,
    StoredEvaluations,
)
from kdcam.recipe.recipe_fields import Published, TeacherConfig
from kdcam.recipe.train_recipe import read_recipe

MACHINE = {"system": "Linux", "processor": "Made-up 1", "cores": 2, "device": "cpu"}
VERSIONS = {"python": "3.11.0", "torch": "2.9.0", "timm": None}


def measures(test: float | None, *, curve: Sequence[float | None] = (), **changes: Any) -> RunMeasures:
    """Return a run whose last epoch scores 0.01 less on test than the selected one."""
    last = None if test is None else test - 0.01
    values: dict[str, Any] = {
        "selected": PartScores(max((one for one in curve if one is not None), default=None), test),
        "last": PartScores(curve[-1] if curve else None, last),
        "best_epoch": 1,
        "curve": tuple(curve),
        "images_per_second": 1000.0,
        "seconds": 60.0,
        "parameters": 12345,
        "test_images": 0 if test is None else 100,
        "agreement": None,
        "agreed_with": None,
        "machine": MACHINE,
        "versions": VERSIONS,
    }
    return RunMeasures(**values | changes)


def agreed(top1: float, kl: float, cam: float | None = None, caam_cam: float | None = None) -> dict[str, Any]:
    """Return what `measures` takes of a run that was measured against the teacher of `plan_of`."""
    return {"agreement": AgreementScores(top1, kl, cam, caam_cam), "agreed_with": "runs/teacher"}


def evaluated(
    kind: str, values: Mapping[str, float], *, facts: str = "[]", left_out: Sequence[str] = ()
) -> StoredEvaluations:
    """Return what one later evaluation of a run found."""
    return StoredEvaluations({kind: StoredEvaluation(values, facts)}, tuple(left_out))


def plan_of(
    names: Sequence[str],
    seeds: Sequence[int],
    *,
    published: Mapping[str, Published] | None = None,
    **keys: Any,
) -> ComparisonPlan:
    """Return a plan of rows of equal recipes on digits."""
    recipe = read_recipe({"data": {"name": "digits"}, **keys}, source="made up")
    numbers = published or {}
    rows = tuple(
        PlannedRow(
            name,
            name,
            recipe,
            "some.toml",
            name,
            (),
            TeacherConfig(checkpoint="runs/teacher"),
            numbers.get(name),
        )
        for name in names
    )
    return ComparisonPlan(rows, tuple(seeds))


def write_run(folder: Path, *, curve: Sequence[float], task: str = "single-label", test: bool = True) -> Path:
    """Write the JSON files of a finished run, whose best epoch is the first."""
    score = "mean_ap" if task == "multi-label" else "acc1"
    folder.mkdir(parents=True)

    def part(value: float) -> dict[str, Any]:
        return {score: value, "nll": 0.5}

    epochs = [
        {"epoch": epoch, "val": part(value), "images_per_second": 100.0 * epoch, "seconds": 1.5}
        for epoch, value in enumerate(curve, start=1)
    ]
    result = {
        "selected": {"epoch": 1, "validation": part(curve[0]), "test": part(0.8) if test else None},
        "last": {"epoch": len(curve), "validation": part(curve[-1]), "test": part(0.7) if test else None},
        "images": {"train": 10, "validation": 5, "test": 5 if test else 0},
        "parameters": 77,
        "published": {"accuracy": 81.5, "source": "a paper"},
    }
    recipe = {"recipe": {"task": task, "select": "best"}, "machine": MACHINE, "versions": VERSIONS}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    (folder / "result.json").write_text(json.dumps(result))
    return folder
