"""Every loss trains a network on from a start."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SCENES, small_recipe

import kdcam
from kdcam.data.datasets import load_data
from kdcam.losses import LOSSES
from kdcam.recipe.table_checks import HEAD_NEEDS
from kdcam.recipe.train_recipe import TrainRecipe, read_recipe
from kdcam.training.assembly import assemble
from kdcam.training.engine import train_step
from kdcam.training.preflight import preflight

HELD = re.compile(r"\.layer1\.|^(?!.*\.layer)(.*\.)?(conv1|bn1)\.")  # a neck puts a prefix before the names
SETTINGS: dict[str, dict[str, Any]] = {  # whose defaults ask for more classes or larger maps
    "cam_kd": {"grids": [1, 2]},
    "gradient_boosting_cross_entropy": {"negatives": 5},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small trained run."""
    return kdcam.train(
        small_recipe(epochs=1), output=tmp_path_factory.mktemp("trained") / "run", device="cpu"
    ).path


def started(name: str, trained: Path) -> TrainRecipe:
    """Return a recipe that trains a run on with a loss, and with what this loss needs beside it."""
    kind = LOSSES[name]
    multi_label = "labels" not in kind.takes
    losses: list[dict[str, Any]] = [{"name": name, "start": 0.0, "warmup": 0.0, **SETTINGS.get(name, {})}]
    if not kind.trains_classifier:
        losses.append({"name": "cross_entropy"})
    model: dict[str, Any] = {"channel_attention": "channel_attention" in kind.needs}
    model["head"] = next((head for need, head in HEAD_NEEDS.items() if need in kind.needs), "linear")
    table: dict[str, Any] = {
        "epochs": 1,
        "batch_size": 16,
        "task": "multi-label" if multi_label else "single-label",
        "data": {**SCENES, "multi_label": multi_label},
        "model": model,
        "loss": losses,
        "init": {"checkpoint": str(trained), "frozen": 1, "layer_decay": 0.5},
    }
    if kind.reads_teacher():
        table["teacher"] = {"checkpoint": str(trained)}
    if "clean" in kind.needs:
        table["adversary"] = {"attack": "pgd", "steps": 1}
    return read_recipe(table, source=name)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_step_from_a_start(trained: Path, name: str) -> None:
    recipe = started(name, trained)
    plan, state = assemble(preflight(recipe, device="cpu"), load_data(recipe.data))
    student = state.model.student
    start = {key: one.clone() for key, one in student.state_dict().items()}
    state.model.train()
    terms = train_step(plan, state, next(iter(plan.train.epoch(0)))).values
    assert torch.isfinite(torch.as_tensor(terms[name]))
    moved = {key for key, one in student.state_dict().items() if not torch.equal(start[key], one)}
    held = {key for key in start if HELD.search(key)}
    assert held
    assert not moved & held
    assert {key for key in moved if ".layer3." in key}
    assert {key for key in moved if ".fc." in key}
