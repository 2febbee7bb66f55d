"""Tests of kdcam.evaluation.robustness.robustness_figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from kdcam.evaluation.robustness.memorisation import LabelNoiseReport
from kdcam.evaluation.robustness.robustness_figures import rate_curves
from kdcam.evaluation.robustness.robustness_file import RunRobustness
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.run_files import RECIPE_FILE

SELECTED = "clean test, selected epoch"


def evaluated(folder: Path, accuracy: float, noise: dict[str, Any] | None, **tables: Any) -> RunRobustness:
    """Return an evaluation of a run that was never trained: its recipe and its numbers."""
    data = {"name": "digits", **({"noise": noise} if noise else {})}
    recipe = read_recipe({"data": data, **tables}, source="mine")
    folder.mkdir()
    (folder / RECIPE_FILE).write_text(json.dumps({"recipe": recipe.model_dump(mode="json")}))
    rate = noise["rate"] if noise else 0.0
    report = LabelNoiseReport(
        kind=noise["kind"] if noise else None,
        nominal_rate=rate,
        realised_rate=rate + 0.01 if noise else 0.0,
        selection="last epoch",
        selected_epoch=1,
        last_epoch=1,
        selected_test_acc=accuracy,
        last_test_acc=None,
        validation=(),
        memorisation=None,
    )
    sections = dict.fromkeys(
        ("attacks", "corruptions", "corrupted_set", "calibration", "out_of_distribution")
    )
    return RunRobustness(
        run=folder,
        network="",
        keys={},
        weights="selected",
        settings={},
        checks=(),
        label_noise=report,
        **sections,
    )


def symmetric(rate: float, seed: int = 0) -> dict[str, Any]:
    return {"kind": "symmetric", "rate": rate, "seed": seed}


@pytest.fixture
def found(tmp_path: Path) -> list[RunRobustness]:
    madry = {"adversary": {}}
    return [
        evaluated(tmp_path / "a", 0.9, None),
        evaluated(tmp_path / "b", 0.8, symmetric(0.2)),
        evaluated(tmp_path / "c", 0.6, symmetric(0.2, seed=1), seed=1, description="again"),
        evaluated(tmp_path / "d", 0.5, symmetric(0.4)),
        evaluated(tmp_path / "e", 0.3, {"kind": "pairflip", "rate": 0.4}),
        evaluated(tmp_path / "f", 0.1, symmetric(0.2), **madry),
        evaluated(tmp_path / "g", 0.2, symmetric(0.4), **madry),
        evaluated(tmp_path / "h", 0.7, symmetric(0.2), model={"name": "kdcam:resnet8_s2"}),
    ]


def test_runs_that_differ_in_seed_and_rate_alone_are_averaged(found: list[RunRobustness]) -> None:
    curves = {curve.name: curve.points for curve in rate_curves(found)}
    symmetric, pairflip, madry = (
        f"cross_entropy, {kind} noise (as {name}): {SELECTED}"
        for kind, name in (("symmetric", "b"), ("pairflip", "e"), ("symmetric", "f"))
    )
    # The other network has a single rate, and the plain run without noise is no point of Madry's.
    assert list(curves) == [symmetric, pairflip, madry]
    assert curves[symmetric] == [(0.0, 0.9), (20.0, pytest.approx(0.7)), (40.0, 0.5)]
    assert curves[pairflip] == [(0.0, 0.9), (40.0, 0.3)]
    assert curves[madry] == [(20.0, 0.1), (40.0, 0.2)]
