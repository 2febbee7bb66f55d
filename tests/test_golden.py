"""Seeded 20-step loss curves: a refactor must not move them.

Run as a script (python tests/test_golden.py) to write the curves anew, after a change that is meant to move them.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcam.checkpoint import save_model
from kdcam.data.datasets import describe_data, load_data
from kdcam.engine import train_step
from kdcam.models.build import ModelConfig, build_classifier
from kdcam.preflight import preflight
from kdcam.recipe import TrainRecipe, read_recipe
from kdcam.training import assemble

CURVES = Path(__file__).parent / "assets" / "golden"
STEPS = 20
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


def recipe_of(name: str, folder: Path) -> TrainRecipe:
    """Return a curve's recipe; the distillation's teacher is a seeded random network in ``folder``."""
    table = {**COMMON, "loss": LOSSES[name]}
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


def curve(name: str, folder: Path) -> list[dict[str, float]]:
    """Return the total and each active term of the first steps."""
    checked = preflight(recipe_of(name, folder), device="cpu")
    plan, state = assemble(checked, load_data(checked.recipe.data))
    state.model.train()
    rows = []
    for batch in plan.train.epoch(0):
        terms = train_step(plan, state, batch)
        state.position.step += 1
        values = {key: float(value) for key, value in terms.values.items()}
        rows.append({"total": float(terms.total.detach()), **values})
        if len(rows) == STEPS:
            return rows
    raise AssertionError(f"an epoch has fewer than {STEPS} steps")


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_curve_has_not_moved(name: str, tmp_path: Path) -> None:
    golden = json.loads((CURVES / f"{name}.json").read_text())
    ours = curve(name, tmp_path)
    assert [sorted(row) for row in ours] == [sorted(row) for row in golden]
    for step, (row, kept) in enumerate(zip(ours, golden, strict=True)):
        # Rounding differs between processors and grows from step to step.
        assert row == pytest.approx(kept, rel=5e-3, abs=1e-4), f"step {step}"


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    for name in sorted(LOSSES):
        with tempfile.TemporaryDirectory() as place:
            rounded = [
                {key: round(value, 6) for key, value in row.items()} for row in curve(name, Path(place))
            ]
        (CURVES / f"{name}.json").write_text(json.dumps(rounded, indent=1) + "\n")
