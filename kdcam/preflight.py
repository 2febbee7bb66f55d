"""The checks that look at the machine, the data's folders and the networks, before any work is done."""

from pathlib import Path
from shutil import which
from typing import NamedTuple

import torch

from kdcam.checkpoint import load_classifier, read_config
from kdcam.data.datasets import DataSummary, describe_data
from kdcam.errors import CheckpointError, DataError, ModelError, RecipeError
from kdcam.losses.loss import Shapes, Widths, needs_of
from kdcam.models.build import ModelConfig, build_classifier
from kdcam.models.classifier import Classifier, Task
from kdcam.models.probes import check_cam, check_linear_classifier, widths
from kdcam.optim import build_optimizer
from kdcam.precision import Precision, pick_device, pick_precision
from kdcam.recipe import DistillRecipe, TrainRecipe
from kdcam.schedule import build_schedule
from kdcam.wording import listed


class Checked(NamedTuple):
    """A recipe that fits this machine, its data and its networks."""

    recipe: TrainRecipe
    precision: Precision
    summary: DataSummary
    student: Classifier  # as training starts, on the CPU
    teacher: Classifier | None  # random weights where a dry run may not fetch them
    student_widths: Widths
    teacher_widths: Widths | None


def preflight(recipe: TrainRecipe, *, device: str = "auto", fetches: bool = True) -> Checked:
    """Return the recipe checked against machine, data folders and networks; no image is decoded.

    Without ``fetches`` nothing is downloaded: networks stand there with random weights.

    Raises ``RecipeError``, ``DataError``, ``ModelError`` or ``CheckpointError`` for the first thing that does not fit.
    """
    chosen = pick_device(device)
    precision = pick_precision(recipe.precision, chosen)
    summary = describe_data(recipe.data)
    _check_validation(recipe, summary)
    _check_compiler(recipe, chosen)
    student = starting_student(recipe, summary, fetches=fetches)
    student_widths = widths(student)
    needs = needs_of(recipe.loss)
    if "cam" in needs:
        check_cam(student)
    if "classifier_weight" in needs:
        check_linear_classifier(student)
    if needs & {"cam", "feature_map"}:
        _check_map(student, student_widths, "model.name")
    build_schedule(recipe.schedule, build_optimizer(recipe.optimizer, student), epochs=recipe.epochs)
    teacher, teacher_widths = None, None
    if isinstance(recipe, DistillRecipe):
        teacher = load_teacher(recipe.teacher.checkpoint, summary, task=recipe.task, fetches=fetches)
        teacher_widths = widths(teacher)
        if needs & {"teacher.label_cam", "teacher.class_cams"}:
            check_cam(teacher)
        if needs & {"teacher.label_cam", "teacher.class_cams", "teacher.feature_map"}:
            _check_map(teacher, teacher_widths, "teacher.checkpoint")
    checked = Checked(recipe, precision, summary, student, teacher, student_widths, teacher_widths)
    _check_fit(checked)
    return checked


def starting_student(recipe: TrainRecipe, summary: DataSummary, *, fetches: bool) -> Classifier:
    """Return the student as training starts; random weights follow from the recipe's seed.

    Published weights are downloaded here if need be; without ``fetches`` random ones stand in for them.
    The generators stay as they are.
    """
    config = recipe.model if fetches else recipe.model.model_copy(update={"pretrained": False})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return _build(config, summary, recipe.task)


def _check_map(classifier: Classifier, sizes: Widths, place: str) -> None:
    name = classifier.config.name
    if sizes.height is None or sizes.width is None:
        raise ModelError(
            f"{place}: {name!r} has no feature map, and a loss of the recipe reads it; take another network"
        )
    if sizes.height * sizes.width == 1:
        raise ModelError(
            f"{place}: the last feature map of {name!r} is 1 x 1 on images of {classifier.image_size} "
            "pixels, which shows no place; losses on maps need more positions: raise data.image_size or take a network "
            "that shrinks less"
        )


def _check_fit(checked: Checked) -> None:
    shapes = shapes_of(checked, torch.empty(0, dtype=torch.int64))  # no label has been read
    for index, loss in enumerate(checked.recipe.loss):
        reason = loss.misfit(shapes)
        if reason is not None:
            raise RecipeError(f"loss[{index}] ({loss.name}): {reason}")


def _build(config: ModelConfig, summary: DataSummary, task: Task) -> Classifier:
    return build_classifier(
        config,
        num_classes=len(summary.label_names),
        in_channels=summary.channels,
        image_size=summary.image_size,
        label_names=summary.label_names,
        task=task,
    )


def _check_compiler(recipe: TrainRecipe, device: torch.device) -> None:
    compilers = ("g++", "clang++", "c++", "cl")
    if recipe.compile and device.type == "cpu" and not any(which(name) for name in compilers):
        raise RecipeError(
            f"compile: found true, but on a CPU torch.compile needs a C++ compiler ({listed(compilers)}), and none "
            "is on the path; install one or set compile = false"
        )


def _check_validation(recipe: TrainRecipe, summary: DataSummary) -> None:
    if recipe.select == "best" and recipe.data.validation == 0 and not summary.own_validation:
        raise RecipeError(
            'data.validation: found 0 with select = "best", and the data has no validation part of its own, which '
            'leaves nothing to select on; hold a part out (validation = 0.1) or take the last epoch (select = "last")'
        )


def load_teacher(
    checkpoint: str, summary: DataSummary, *, task: Task = "single-label", fetches: bool
) -> Classifier:
    """Return the teacher in eval mode: a run folder, a file, or a timm name with its pretrained weights.

    Raises ``CheckpointError``, ``ModelError``, or ``DataError`` where its classes or channels are not the data's.
    """
    path = Path(checkpoint).expanduser()
    if path.exists():
        stored = read_config(path)
        _check_classes(checkpoint, stored.label_names, stored.num_classes, summary)
        _check_channels(checkpoint, stored.in_channels, summary)
        if stored.task != task:
            raise RecipeError(
                f"teacher.checkpoint: {checkpoint} was trained with task = {stored.task!r}, the recipe has task = "
                f"{task!r}, so that their logits mean different things; take a teacher of the same task"
            )
        return load_classifier(path)
    if "/" in checkpoint or checkpoint.endswith((".safetensors", ".pth")):
        raise CheckpointError(
            f"teacher.checkpoint: {checkpoint} is not there; give a run folder, a .safetensors file "
            "with its config.json beside it, or a timm name"
        )
    config = ModelConfig(name=checkpoint, pretrained=fetches)
    teacher = _build(config, summary, task)
    return teacher.eval()


def _check_classes(checkpoint: str, names: tuple[str, ...], count: int, summary: DataSummary) -> None:
    if count != len(summary.label_names):
        raise DataError(
            f"teacher.checkpoint: {checkpoint} has {count} classes, the data has {len(summary.label_names)}; "
            "teacher and student must learn the same classes"
        )
    if _names_are_known(summary):
        check_class_order(checkpoint, names, summary.label_names)


def _names_are_known(summary: DataSummary) -> bool:
    # CIFAR-100's and torchvision's sets tell their names only when they are read; numbers stand in until then.
    return summary.label_names != tuple(str(index) for index in range(len(summary.label_names)))


def check_class_order(checkpoint: str, theirs: tuple[str, ...], ours: tuple[str, ...]) -> None:
    """Raise ``DataError`` naming the first class that a teacher has in another place; no names fit any."""
    for index, (taught, own) in enumerate(zip(theirs, ours, strict=False)):
        if taught != own:
            raise DataError(
                f"teacher.checkpoint: class {index} of {checkpoint} is {taught!r}, of the data {own!r}; teacher and "
                "student must have the same classes in the same order"
            )


def _check_channels(checkpoint: str, channels: int, summary: DataSummary) -> None:
    if channels != summary.channels:
        raise DataError(
            f"teacher.checkpoint: {checkpoint} reads images of {channels} channels, the data has {summary.channels}; "
            "train a teacher on this data, or set data.channels where the source has it"
        )


def shapes_of(checked: Checked, train_targets: torch.Tensor) -> Shapes:
    """Return what the losses may know before training."""
    return Shapes(
        checked.recipe.task,
        len(checked.summary.label_names),
        train_targets,
        checked.student_widths,
        checked.teacher_widths,
    )


__all__ = ["Checked", "check_class_order", "load_teacher", "preflight", "shapes_of", "starting_student"]
