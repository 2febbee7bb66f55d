"""The runs that distillation_speed.py compares: their data, their teacher, and turns of each."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from plain_distillation import Plain, plain_loader
from torch import nn

from kdcam.data.batches.batch import Batch, Batches
from kdcam.data.batches.resident import ResidentImages
from kdcam.data.dataset_parts import DataParts, Part
from kdcam.data.datasets import load_data
from kdcam.models import Classifier, ModelConfig, build_classifier
from kdcam.models.weight_folding import freeze_and_fold
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.checkpoint import load_classifier, save_model
from kdcam.runtime.memory import keep_freed_memory
from kdcam.runtime.progress import EpochRecord, Silent
from kdcam.training.assembly import assemble
from kdcam.training.engine import Plan, TrainState, train_epoch
from kdcam.training.loss_terms import ShareWatch
from kdcam.training.preflight import preflight
from kdcam.training.teachers.cached_teacher import cache_teachers, cached_views

TEACHER, STUDENT, SIZE, BATCH, CLASSES = "kdcam:resnet56", "kdcam:resnet20", 32, 64, 100
MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
VIEWS = 4
PLAIN, ALONE, LIVE, CACHED = "plain", "alone", "live", "cached"

Job = Callable[[], None]
Table = dict[str, Any]


class Setting(NamedTuple):
    """What a job's process needs to know."""

    folder: Path  # holds pixels.npy, labels.npy, the teacher's run folder and the cache
    data: Table
    label_names: tuple[str, ...]
    steps: int  # of a turn
    threads: int


def load_parts(setting: Setting) -> DataParts:
    """Return the training part that the parent wrote."""
    pixels, labels = (
        torch.from_numpy(np.load(setting.folder / f"{name}.npy")) for name in ("pixels", "labels")
    )
    part = Part(ResidentImages(pixels, image_size=SIZE), labels)
    return DataParts(part, None, None, setting.label_names, channels=3, image_size=SIZE)


def read_parts(data: Table, images: int) -> DataParts:
    """Return the training part of a folder, or random bytes where ``data`` names none; at most ``images`` of them."""
    generator = torch.Generator().manual_seed(0)
    if data["name"] == "image-folder":
        parts = load_data(read_recipe({"data": data, "select": "last"}, source="data").data)
        chosen = torch.randperm(len(parts.train), generator=generator)[:images]
        return replace(parts, train=parts.train.subset(chosen))
    pixels = torch.randint(256, (images, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    labels = torch.randint(CLASSES, (images,), generator=generator)
    part = Part(ResidentImages(pixels, image_size=SIZE), labels)
    return DataParts(part, None, None, tuple(map(str, range(CLASSES))), channels=3, image_size=SIZE)


def make_teacher(parts: DataParts, folder: Path) -> None:
    """Write a teacher with random weights, and BatchNorm statistics of the images, as a run folder has it.

    Its blocks add little, as trained ones do: else rounding grows so much that its BatchNorms are not folded.
    """
    torch.manual_seed(1)
    config = ModelConfig(name=TEACHER, mean=MEAN, std=STD)
    classes = len(parts.label_names)
    teacher = build_classifier(config, num_classes=classes, in_channels=3, image_size=SIZE)
    teacher.label_names = parts.label_names
    for name, parameter in teacher.named_parameters():
        if name.endswith("bn2.weight"):
            nn.init.constant_(parameter, 0.2)
    assert isinstance(parts.train.images, ResidentImages)
    with torch.no_grad():
        for rows in parts.train.images.pixels[: 20 * BATCH].split(BATCH):
            teacher(rows / 255)
    save_model(folder, teacher.eval())
    if freeze_and_fold(teacher).folded == 0:
        raise RuntimeError("the teacher's BatchNorms were not folded, as a trained one's are")


def plain_job(parts: DataParts, teacher: Path, steps: int, workers: int) -> Job:
    """Return turns of the plain loop."""
    config = ModelConfig(name=STUDENT)
    student = build_classifier(config, num_classes=len(parts.label_names), in_channels=3, image_size=SIZE)
    loader = plain_loader(parts.train, batch_size=BATCH, turn=steps, workers=workers, mean=MEAN, std=STD)
    return Plain(plain(student), plain(load_classifier(teacher)), loader).steps


def plain(classifier: Classifier) -> nn.Module:
    """Return the bare network with its weights in torch's usual order."""
    return classifier.network.to(memory_format=torch.contiguous_format)


class NoCheckpoints:
    """Saves nothing: a turn is no run."""

    def save(self, state: TrainState) -> None:
        del state

    def select(self, state: TrainState) -> None:
        del state

    def record(self, record: EpochRecord) -> None:
        del record


class Turn:
    """The next ``steps`` batches of a run's epochs, given as an epoch of their own."""

    def __init__(self, batches: Batches, steps: int) -> None:
        self.steps = steps
        whole = len(batches) - (batches.num_images % BATCH > 0)
        self.endless = chain.from_iterable(islice(batches.epoch(epoch), whole) for epoch in count())

    @property
    def num_images(self) -> int:
        return self.steps * BATCH

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[Batch]:
        del epoch, start_batch
        return islice(self.endless, self.steps)


def kdcam_job(table: Table, parts: DataParts, steps: int) -> Job:
    """Return turns of kdcam's engine on the run that a recipe describes."""
    checked = preflight(read_recipe(table, source="benchmark"), device="cpu")
    plan, state = assemble(checked, parts)
    if cached_views(checked.recipe) is not None:
        plan = cache_teachers(checked, parts, plan, Silent())
    plan = plan._replace(train=Turn(plan.train, steps))
    return partial(take_turn, plan, state, ShareWatch(Silent()))


def take_turn(plan: Plan, state: TrainState, watch: ShareWatch) -> None:
    """Train on the plan's next batches, with all that the engine does in a step."""
    train_epoch(plan, state, watch=watch, checkpointer=NoCheckpoints(), progress=Silent())
    state.position.step = 0


def recipes(data: Table, teacher: str, cache: Path) -> dict[str, Table]:
    """Return the recipe of each of kdcam's jobs."""
    base = {
        "batch_size": BATCH,
        "select": "last",
        "data": data,
        "model": {"name": STUDENT, "mean": MEAN, "std": STD},
        "optimizer": {"name": "sgd", "lr": 0.05, "weight_decay": 5e-4},
    }
    cached = {"checkpoint": teacher, "cache": "views", "views": VIEWS, "cache_folder": str(cache)}
    eager = {
        ALONE: base,
        LIVE: base | {"method": "kd", "teacher": {"checkpoint": teacher}},
        CACHED: base | {"method": "kd", "teacher": cached},
    }
    return eager | {f"{name} compiled": table | {"compile": True} for name, table in eager.items()}


def start(name: str, setting: Setting) -> Job:
    """Return turns of the job of a name, in this process; the cache is made where it is not there yet."""
    torch.set_num_threads(setting.threads)
    parts, teacher = load_parts(setting), setting.folder / "teacher"
    if name.startswith(PLAIN):
        return plain_job(parts, teacher, setting.steps, int(name.split()[1]))
    keep_freed_memory()  # as kdcam's command does; plain PyTorch programs do not
    table = recipes(setting.data, str(teacher), setting.folder / "cache")[name]
    return kdcam_job(table, parts, setting.steps)
