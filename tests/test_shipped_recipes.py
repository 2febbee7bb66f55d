"""Every shipped recipe does a step: its losses, optimiser, schedule and augmentation, on a tiny network and data."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SCENES

from kdcam.checkpoint import save_model
from kdcam.data.config import DigitScenesConfig
from kdcam.data.datasets import describe_data, load_data
from kdcam.engine import train_step
from kdcam.models.build import ModelConfig, build_classifier
from kdcam.preflight import preflight
from kdcam.recipe import TrainRecipe, read_recipe
from kdcam.recipe_files import read_toml, shipped_recipes
from kdcam.training import assemble

EMBEDDED = {"digits", "digit-scenes"}  # sources that need no files


def tiny(name: str, folder: Path) -> TrainRecipe:
    """Return a shipped recipe on a tiny network; other data than the embedded gives way to tiny scenes."""
    table: dict[str, Any] = read_toml(name)
    data = table["data"]
    if data["name"] != "digits":
        kept = {key: data[key] for key in ("augment", "validation", "mixup", "cutmix") if key in data}
        table["data"] = {**SCENES, **kept}
        table["model"] = {"name": "kdcam:resnet8_s2"}
    table["batch_size"] = 8
    if "teacher" in table:
        table["teacher"]["checkpoint"] = random_teacher(folder, table["data"])
    return read_recipe(table, source=name)


def random_teacher(folder: Path, data: dict[str, Any]) -> str:
    summary = describe_data(DigitScenesConfig.model_validate(data))
    torch.manual_seed(1)
    save_model(
        folder,
        build_classifier(
            ModelConfig(name="kdcam:resnet8"),
            num_classes=len(summary.label_names),
            in_channels=summary.channels,
            image_size=summary.image_size,
            label_names=summary.label_names,
        ),
    )
    return str(folder)


@pytest.mark.parametrize("name", shipped_recipes())
def test_does_a_step_with_every_term_on(name: str, tmp_path: Path) -> None:
    checked = preflight(tiny(name, tmp_path), device="cpu")
    plan, state = assemble(checked, load_data(checked.recipe.data))
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    state.model.train()
    state.position.epoch = plan.epochs - 1  # the last epoch, in which every term counts
    terms = train_step(plan, state, next(iter(plan.train.epoch(0))))
    assert set(terms.values) == {loss.name for loss in checked.recipe.loss}
    assert all(weight > 0 for weight in terms.weights.values())
    assert torch.isfinite(terms.total)
    moved = zip(before, state.model.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)


@pytest.mark.parametrize("name", [n for n in shipped_recipes() if read_toml(n)["data"]["name"] in EMBEDDED])
def test_embedded_data_and_network_fit_as_written(name: str, tmp_path: Path) -> None:
    table = read_toml(name)
    if "teacher" in table:
        table["teacher"]["checkpoint"] = random_teacher(tmp_path, table["data"])
    checked = preflight(read_recipe(table, source=name), device="cpu")
    assert checked.student.image_size == checked.summary.image_size
    assert (checked.teacher is not None) == ("teacher" in table)


def test_quickstart_teacher_and_student_see_the_same_split() -> None:
    teacher, student = (read_toml(f"quickstart/{name}")["data"] for name in ("teacher", "student"))
    assert teacher == student
