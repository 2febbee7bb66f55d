"""Adversarial training under a cached teacher: what the attack reads of it is cached as well."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cached_runs import cached_plan, cached_recipe
from torch import Tensor

from kdcam.data.batches.batch import Batch
from kdcam.data.datasets import load_data
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.training.assembly import assemble
from kdcam.training.engine import Plan, TrainState, train_step
from kdcam.training.preflight import preflight
from kdcam.training.teachers.cached_teacher import CachedTeacher, teacher_needs

ATTACK = {"eps": 0.1, "steps": 2, "alpha": 0.05, "maximise": "kl_to_teacher"}
CE = {"name": "cross_entropy"}
RSLAD = [{"name": "kd", "temperature": 1.0}, {"name": "kd", "temperature": 1.0, "images": "clean"}]


def assembled(recipe: TrainRecipe) -> tuple[Plan, TrainState]:
    """Return what runs the teacher live, on the views that a cache would hold."""
    plan, state = assemble(preflight(recipe, device="cpu"), load_data(recipe.data))
    state.model.train()
    return plan, state


def step_of(plan: Plan, state: TrainState, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the images that the student was trained on, and the terms."""
    trained: list[Tensor] = []
    student = state.model.student

    def read(images: Tensor, *, stages: bool = False) -> Any:
        trained.append(images)
        return student.outputs(images, stages=stages)

    state.model.read = read
    terms = train_step(plan, state, batch)
    return trained[-1], dict(terms.values)


@pytest.mark.parametrize("loss", [RSLAD, [CE]], ids=["losses read it too", "the attack alone reads it"])
def test_a_step_under_a_cached_teacher_is_that_under_the_live_one(
    teachers: list[str], tmp_path: Path, loss: list[dict[str, Any]]
) -> None:
    recipe = cached_recipe(teachers[0], tmp_path, adversary=ATTACK, loss=loss)
    live, state = assembled(recipe)
    _, reference = assembled(recipe)
    cached = cached_plan(recipe)
    assert all(isinstance(teacher, CachedTeacher) for teacher in cached.teachers)
    batch = next(iter(live.train.epoch(0)))
    images, terms = step_of(live, state, batch)
    others, again = step_of(cached, reference, batch)
    assert not torch.equal(images, batch.images)
    # A gradient near zero may change its sign with the last digit of the teacher's logits.
    assert (images - others).abs().lt(1e-6).float().mean() > 0.99
    torch.testing.assert_close(again, terms, rtol=2**-11, atol=1e-6)


def test_only_an_attack_that_reads_the_teacher_adds_to_what_is_cached(teachers: list[str]) -> None:
    needs = {
        maximised: teacher_needs(
            cached_recipe(teachers[0], adversary={"maximise": maximised}, loss=[CE, {"name": "caam_cam"}])
        )
        for maximised in ("cross_entropy", "kl_to_teacher")
    }
    assert needs["cross_entropy"] == {"teacher.label_cam"}
    assert needs["kl_to_teacher"] == {"teacher.label_cam", "teacher.logits"}
