"""Small runs under a cached teacher, for tests of what is kept and read."""

from pathlib import Path
from typing import Any

import torch
from small_runs import SCENES, Watcher, small_recipe

from kdcam.data.datasets import DataParts, load_data
from kdcam.engine import Plan
from kdcam.models.classifier import TeacherOutputs, teacher_outputs
from kdcam.preflight import Checked, preflight
from kdcam.recipe import TrainRecipe
from kdcam.teacher_cache.caching import cache_teachers
from kdcam.teacher_cache.kept import teacher_needs
from kdcam.training import assemble

LABELS = {"name": "cross_entropy"}
KD = [LABELS, {"name": "kd"}]
EVERY_NEED = [{"name": name} for name in ("cross_entropy", "kd", "caam_cam", "cat_kd", "review_kd", "rkd")]
AUGMENTED = {**SCENES, "augment": ["crop", "flip"]}


def cached_recipe(
    teacher: str, folder: Path | None = None, /, *, keys: Any = None, **changes: Any
) -> TrainRecipe:
    """Return a small recipe under a cached teacher; ``keys`` are of its table."""
    place = {} if folder is None else {"cache_folder": str(folder)}
    table = {"checkpoint": teacher, "cache": "views", **place, **(keys or {})}
    return small_recipe(**{"loss": KD, "data": AUGMENTED, "teacher": table, **changes})


def prepared(recipe: TrainRecipe) -> tuple[Checked, DataParts, Plan]:
    checked = preflight(recipe, device="cpu")
    parts = load_data(recipe.data)
    return checked, parts, assemble(checked, parts)[0]


def cached_plan(recipe: TrainRecipe, watcher: Watcher | None = None) -> Plan:
    checked, parts, plan = prepared(recipe)
    return cache_teachers(checked, parts, plan, watcher or Watcher())


def assert_read_equals_live(recipe: TrainRecipe) -> None:
    checked, parts, live = prepared(recipe)
    needs = teacher_needs(recipe)
    cached = cache_teachers(checked, parts, live, Watcher())
    assert (cached.teachers, len(cached.cached)) == ((), len(live.teachers))
    for batch in (batch for epoch in range(3) for batch in live.train.epoch(epoch)):
        for teacher, kept in zip(live.teachers, cached.cached, strict=True):
            said = teacher_outputs(teacher, batch.images, batch.targets, needs)
            read = kept.outputs(batch, needs)
            assert_rounded(said, read)


def assert_rounded(said: TeacherOutputs, read: TeacherOutputs) -> None:
    """Compare with the live outputs rounded to fp16; other batch sizes add up in another order, 1e-6 away."""
    for name in TeacherOutputs._fields:
        live, kept = getattr(said, name), getattr(read, name)
        if live is None:
            assert kept is None, name
            continue
        pairs = zip(live, kept, strict=True) if name == "stages" else [(live, kept)]
        for one, other in pairs:
            assert other.dtype == torch.float32
            assert torch.equal(other.half().float(), other), name  # a number of fp16
            torch.testing.assert_close(other, one, rtol=2**-11, atol=2e-6)
            assert (one.half() == other).float().mean() > 0.95, name


def told(watcher: Watcher) -> list[str]:
    return [text for text in watcher.messages if text.startswith("teacher cache")]


def arrays(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.npy")}
