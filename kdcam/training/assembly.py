"""What a run consists of, put together before its first step: `assemble`."""

import random
from typing import Any

import numpy as np
import torch

from kdcam.data.batches.augmentation import Mixing
from kdcam.data.batches.batch import EVALUATION_BATCH, Batches
from kdcam.data.batches.episodes import EpisodeOrder
from kdcam.data.dataset_parts import DataParts, Part
from kdcam.data.datasets import batches
from kdcam.errors import DataError, RecipeError
from kdcam.losses.loss import Objective
from kdcam.models.classifier import Classifier
from kdcam.models.layer_groups import frozen_stages
from kdcam.models.weight_folding import freeze_and_fold
from kdcam.optim.optimizer import build_optimizer
from kdcam.optim.schedule import build_schedule
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.training.adversarial_images import Adversary
from kdcam.training.engine import Plan, Position, Trainable, TrainState
from kdcam.training.length_warnings import last_progress
from kdcam.training.loss_terms import TermMeans
from kdcam.training.preflight import CheckedRun, learning_rate_scales, shapes_of
from kdcam.training.teachers.cached_teacher import cached_views
from kdcam.training.teachers.live_teacher import LiveTeacher, check_class_order


def assemble(checked: CheckedRun, parts: DataParts) -> tuple[Plan, TrainState]:
    """Return what stays and what moves in a run, as it stands before the first step.

    torch's, numpy's and Python's generators are seeded with the recipe's seed.
    """
    recipe, device = checked.recipe, checked.precision.device
    _seed(recipe.seed)
    student = checked.student.to(device)
    student.label_names = parts.label_names  # some sources tell their names only when they are read
    for config, teacher in zip(recipe.teachers, checked.teachers, strict=True):
        check_class_order(config.checkpoint, teacher.label_names, parts.label_names)
    objective = Objective(recipe.loss, *shapes_of(checked, parts.train.targets)).to(device)
    model = Trainable(student, objective, compiled=recipe.compile)
    scales = learning_rate_scales(recipe, student)
    optimizer = build_optimizer(recipe.optimizer, student, objective, scales=scales)
    state = TrainState(
        model=model,
        optimizer=optimizer,
        schedule=build_schedule(recipe.schedule, optimizer, epochs=recipe.epochs),
        scaler=checked.precision.scaler(),
        ema=_moving_average(student, recipe.ema_decay),
        means=TermMeans(),
        position=Position(),
    )
    train = _training_batches(recipe, parts, device)
    if recipe.select == "best" and parts.validation is not None and not _has_positives(parts.validation):
        raise DataError(
            'data: no validation image has a label, so that select = "best" has nothing to go by; give the validation '
            'part labelled images, or take the last epoch (select = "last")'
        )
    if len(train) == 0:
        raise DataError(f"data: {len(parts.train)} training images give no batch; at least 2 are needed")
    _check_unfreezing(recipe, len(train))
    plan = Plan(
        epochs=recipe.epochs,
        accumulate=recipe.accumulate,
        clip_norm=recipe.clip_norm,
        selects_best=recipe.select == "best",
        train=train,
        validation=None if parts.validation is None else evaluation_batches(checked, parts.validation),
        teachers=tuple(
            LiveTeacher(freeze_and_fold(teacher.to(device).eval()).classifier) for teacher in checked.teachers
        ),
        precision=checked.precision,
        mixing=_mixing(checked),
        adversary=None
        if recipe.adversary is None
        else Adversary(recipe.adversary, task=recipe.task, seed=recipe.seed),
        frozen=None if recipe.init is None else frozen_stages(student, recipe.init),
    )
    return plan, state


def _check_unfreezing(recipe: TrainRecipe, steps: int) -> None:
    """Raise ``RecipeError`` where frozen stages would be unfrozen only after the last update of a run."""
    if recipe.init is None or recipe.init.unfreeze == 1:
        return
    # Stages are unfrozen at the begin of a group alone.
    last = last_progress(recipe.epochs, steps, accumulate=recipe.accumulate)
    if last < recipe.init.unfreeze:
        raise RecipeError(
            f"init.unfreeze: found {recipe.init.unfreeze:g}, but the last update of {recipe.epochs} epochs of {steps} "
            f"steps begins after {last:.3g} of the run, so that nothing would be unfrozen; set a smaller one, more "
            "epochs, or leave it out to keep the stages as they are"
        )


def _training_batches(recipe: TrainRecipe, parts: DataParts, device: torch.device) -> Batches:
    episodes = None
    if recipe.episodes is not None:
        targets = parts.train.targets
        episodes = EpisodeOrder(targets, recipe.episodes, seed=recipe.seed, label_names=parts.label_names)
    return batches(
        parts.train,
        batch_size=recipe.batch_size,
        training=True,
        config=recipe.data,
        seed=recipe.seed,
        device=device,
        views=cached_views(recipe),
        episodes=episodes,
    )


def _has_positives(part: Part) -> bool:
    return part.targets.ndim == 1 or bool(part.targets.any())


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _moving_average(student: Classifier, decay: float) -> Any | None:
    if decay == 0:
        return None
    from timm.utils.model_ema import ModelEmaV3  # here: a run without an average need not wait for it

    return ModelEmaV3(student, decay=decay)


def _mixing(checked: CheckedRun) -> Mixing | None:
    data = checked.recipe.data
    if data.mixup == 0 and data.cutmix == 0:
        return None
    return Mixing(mixup=data.mixup, cutmix=data.cutmix, num_classes=len(checked.summary.label_names))


def evaluation_batches(checked: CheckedRun, part: Part) -> Batches:
    """Return a part's batches in order, without augmentation."""
    recipe = checked.recipe
    return batches(
        part,
        batch_size=EVALUATION_BATCH,
        training=False,
        config=recipe.data,
        seed=recipe.seed,
        device=checked.precision.device,
    )


__all__ = ["assemble", "evaluation_batches"]
