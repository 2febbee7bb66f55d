"""Small runs under a cached teacher, for tests of what is cached and read."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from small_runs import SCENES, Watcher, small_recipe

from kdcam.data.batches.batch import Views
from kdcam.data.batches.image_digests import ImagesDigest
from kdcam.data.dataset_parts import DataParts
from kdcam.data.datasets import load_data
from kdcam.models.build import build_classifier
from kdcam.models.classifier import TeacherOutputs
from kdcam.models.model_config import ModelConfig
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.checkpoint import save_model
from kdcam.training.assembly import assemble
from kdcam.training.engine import Plan
from kdcam.training.preflight import CheckedRun, preflight
from kdcam.training.teachers.cache_folder import SEVERAL
from kdcam.training.teachers.cache_key import CacheKey, DataKey, TeacherIdentity
from kdcam.training.teachers.cached_teacher import CachedTeacher, cache_teachers, teacher_needs

LABELS = {"name": "cross_entropy"}
KD = [LABELS, {"name": "kd"}]
EVERY_NEED: list[dict[str, Any]] = [
    {"name": "vid", "stages": "published"},
    *({"name": name} for name in ("cross_entropy", "kd", "caam_cam", "cat_kd", "review_kd", "rkd")),
]
AUGMENTED = {**SCENES, "augment": ["crop", "flip"]}


def cached_recipe(
    teacher: str, folder: Path | None = None, /, *, keys: Any = None, **changes: Any
) -> TrainRecipe:
    """Return a small recipe under a cached teacher; ``keys`` are of its table."""
    place = {} if folder is None else {"cache_folder": str(folder)}
    table = {"checkpoint": teacher, "cache": "views", **place, **(keys or {})}
    return small_recipe(**{"loss": KD, "data": AUGMENTED, "teacher": table, **changes})


def picture_recipe(place: Path, *, folder: Path | None = None) -> TrainRecipe:
    """Return a recipe on pictures too large to hold, under a teacher of random weights."""
    random = torch.Generator().manual_seed(0)
    for name in ("cat", "dog"):
        (place / "photos" / name).mkdir(parents=True)
        for index in range(9):
            pixels = torch.randint(0, 256, (80, 90, 3), dtype=torch.uint8, generator=random).numpy()
            Image.fromarray(pixels).save(place / "photos" / name / f"{index}.png")
    teacher = build_classifier(
        ModelConfig(name="kdcam:resnet8"),
        num_classes=2,
        in_channels=3,
        image_size=72,
        label_names=["cat", "dog"],
    )
    save_model(place / "teacher", teacher)
    data = {
        "name": "image-folder",
        "root": str(place / "photos"),
        "image_size": 72,
        "augment": ["resized-crop", "flip"],
        "validation": 0.2,
    }
    loss = [*KD, {"name": "caam_cam"}]
    return cached_recipe(str(place / "teacher"), folder, data=data, batch_size=4, loss=loss)


def small_key(*, views: int, images: int) -> CacheKey:
    """Return the key of a cache of made-up arrays."""
    teacher = TeacherIdentity({"name": "kdcam:resnet8"}, "a" * 64, (0.5,), (0.5,))
    data = DataKey(images, 8, ImagesDigest("digest", "b" * 64))
    return CacheKey(teacher, data, ("crop", "flip"), Views(views, 0), "float32")


def prepared(recipe: TrainRecipe) -> tuple[CheckedRun, DataParts, Plan]:
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
    assert all(isinstance(teacher, CachedTeacher) for teacher in cached.teachers)
    for batch in (batch for epoch in range(3) for batch in live.train.epoch(epoch)):
        for teacher, reader in zip(live.teachers, cached.teachers, strict=True):
            assert_rounded(teacher.outputs(batch, needs), reader.outputs(batch, needs))


def assert_rounded(ours: TeacherOutputs, read: TeacherOutputs) -> None:
    """Compare with the live outputs rounded to fp16; other batch sizes add up in another order, 1e-6 away."""
    for name in TeacherOutputs._fields:
        live, cached = getattr(ours, name), getattr(read, name)
        if live is None:
            assert cached is None, name
            continue
        pairs = zip(live, cached, strict=True) if name in SEVERAL else [(live, cached)]
        for one, other in pairs:
            assert other.dtype == torch.float32
            assert torch.equal(other.half().float(), other), name  # a number of fp16
            torch.testing.assert_close(other, one, rtol=2**-11, atol=2e-6)
            assert (one.half() == other).float().mean() > 0.95, name


def told(watcher: Watcher) -> list[str]:
    return [text for text in watcher.messages if text.startswith("teacher cache")]


def arrays(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.npy")}
