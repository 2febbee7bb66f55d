"""Seeded 20-step loss curves in float64: a refactor must not move them, on any processor (docs/decisions/028).

Run as a script (python tests/test_golden.py) to write the curves anew, after a change that is meant to move them.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from default_float64 import default_float64, wide

from kdcam.data.datasets import describe_data, load_data
from kdcam.models.build import build_classifier
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.runs.checkpoint import save_model
from kdcam.training.assembly import assemble
from kdcam.training.engine import train_step
from kdcam.training.preflight import preflight

CURVES = Path(__file__).parent / "assets" / "golden"
STEPS = 20
DIGITS = 12  # of a stored value
# Within 20 steps other processors, thread counts and versions of torch (2.9, 2.14) move a curve by up to 1.2e-13 of its
# value; a constant that changes by one part in a million moves it by 2e-9 and more.
TOLERANCE = 1e-9
COMMON: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 32,
    "data": {"name": "digits", "augment": ["crop"]},
    "model": {"name": "kdcam:resnet8"},
    "optimizer": {"name": "sgd", "lr": 0.05},
}
LOSSES: dict[str, list[dict[str, Any]]] = {
    "cam": [{"name": "cross_entropy"}, {"name": "cam", "start": 0.125}],
    "distill": [
        {"name": "cross_entropy", "weight": 0.1},
        {"name": "kd", "weight": 0.9},
        {"name": "caam_cam", "weight": 3.0, "warmup": 0.1},
    ],
}
Row = dict[str, float]


def recipe_of(name: str, folder: Path, changes: Mapping[str, Any]) -> TrainRecipe:
    """Return a curve's recipe; the distillation's teacher is a seeded random network in ``folder``."""
    table = {**COMMON, "loss": LOSSES[name], **changes}
    if name == "distill":
        summary = describe_data(read_recipe(COMMON, source="golden").data)
        torch.manual_seed(1)
        teacher = build_classifier(
            ModelConfig(name="kdcam:resnet14"),
            num_classes=10,
            in_channels=summary.channels,
            image_size=summary.image_size,
            label_names=summary.label_names,
        )
        save_model(folder, teacher)
        table["teacher"] = {"checkpoint": str(folder)}
    return read_recipe(table, source="golden")


def curve(name: str, folder: Path, changes: Mapping[str, Any] | None = None) -> list[Row]:
    """Return the total and each active term of the first steps; ``changes`` are other tables of the recipe."""
    with default_float64():
        checked = preflight(recipe_of(name, folder, changes or {}), device="cpu")
        plan, state = assemble(checked, load_data(checked.recipe.data))
        state.model.train()
        rows = []
        for batch in plan.train.epoch(0):
            terms = train_step(plan, state, wide(batch))
            state.position.step += 1
            assert {value.dtype for value in (terms.total, *terms.values.values())} == {torch.float64}
            values = {key: float(value) for key, value in terms.values.items()}
            rows.append({"total": float(terms.total.detach()), **values})
            if len(rows) == STEPS:
                return rows
    raise AssertionError(f"an epoch has fewer than {STEPS} steps")


def golden(name: str) -> list[Row]:
    rows: list[Row] = json.loads((CURVES / f"{name}.json").read_text())
    return rows


def moved(ours: list[Row], stored: list[Row]) -> list[int]:
    """Return the steps whose values differ by more than the tolerance."""
    return [
        step
        for step, (row, there) in enumerate(zip(ours, stored, strict=True))
        if row != pytest.approx(there, rel=TOLERANCE, abs=0)
    ]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_curve_has_not_moved(name: str, tmp_path: Path) -> None:
    ours, stored = curve(name, tmp_path), golden(name)
    assert [sorted(row) for row in ours] == [sorted(row) for row in stored]
    for step in moved(ours, stored):
        assert ours[step] == pytest.approx(stored[step], rel=TOLERANCE, abs=0), f"step {step}"


def with_key(name: str, loss: str, key: str, value: float) -> dict[str, Any]:
    """Return the losses of a curve with one key of one loss changed."""
    return {"loss": [{**table, key: value} if table["name"] == loss else table for table in LOSSES[name]]}


@pytest.mark.parametrize(
    ("name", "changes", "first"),
    [
        pytest.param("cam", with_key("cam", "cam", "weight", 3.000003), 10, id="cam's weight"),
        pytest.param("distill", with_key("distill", "kd", "temperature", 4.000004), 0, id="kd's temperature"),
        pytest.param(
            "distill", with_key("distill", "caam_cam", "weight", 3.000003), 1, id="caam_cam's weight"
        ),
        pytest.param("cam", {"optimizer": {"name": "sgd", "lr": 0.05000005}}, 1, id="learning rate"),
    ],
)
def test_a_millionth_of_a_constant_is_noticed(
    name: str, changes: dict[str, Any], first: int, tmp_path: Path
) -> None:
    """From the first step on that the constant has a part in."""
    assert moved(curve(name, tmp_path, changes), golden(name)) == list(range(first, STEPS))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sorted(LOSSES):
        with tempfile.TemporaryDirectory() as place:
            rounded = [
                {key: float(f"{value:.{DIGITS}g}") for key, value in row.items()}
                for row in curve(name, Path(place))
            ]
        (CURVES / f"{name}.json").write_text(json.dumps(rounded, indent=1) + "\n")
