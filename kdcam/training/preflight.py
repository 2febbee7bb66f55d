"""The checks that look at the machine, the data's folders and the networks, before any work is done."""

from collections.abc import Iterator, Sequence
from shutil import which
from typing import NamedTuple

import torch

from kdcam.data.batches.episodes import check_ways
from kdcam.data.dataset_parts import DataSummary
from kdcam.data.datasets import describe_data
from kdcam.errors import DataError, ModelError, RecipeError
from kdcam.files.paths import expanded
from kdcam.losses.loss import Shapes, needs_of
from kdcam.models.build import build_for_data
from kdcam.models.classifier import Classifier, Widths
from kdcam.models.inspection import check_cam, check_linear_classifier, cost, linear_classifier, widths
from kdcam.models.layer_groups import frozen_stages, layer_scales
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.packaged_weights import RGB, is_packaged
from kdcam.models.weights.published_networks import published_classes
from kdcam.models.weights.starting_weights import holds_neck, starting_weights
from kdcam.optim.optimizer import build_optimizer
from kdcam.optim.schedule import build_schedule
from kdcam.recipe.recipe_fields import TeacherConfig
from kdcam.recipe.table_checks import is_solved_probe, model_problems
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runs.checkpoint import load_classifier
from kdcam.runtime.precision import Precision, pick_device, pick_precision
from kdcam.settings.messages import listed
from kdcam.training.length_warnings import length_warnings
from kdcam.training.starting_point import StartingPoint, init_errors, init_message, starting_point
from kdcam.training.teachers.cache_key import TeacherIdentity, teacher_identity
from kdcam.training.teachers.live_teacher import load_teacher, teacher_errors

_STUDENT_MAPS = frozenset({"cam", "feature_map", "published_stages"})
_TEACHER_MAPS = frozenset(
    {"teacher.label_cam", "teacher.class_cams", "teacher.feature_map", "teacher.published_stages"}
)


class CheckedRun(NamedTuple):
    """A recipe that fits this machine, its data and its networks."""

    recipe: TrainRecipe
    precision: Precision
    summary: DataSummary
    student: Classifier  # as training starts, on the CPU
    teachers: tuple[Classifier, ...]  # random weights where a dry run may not fetch them
    student_widths: Widths
    teacher_widths: tuple[Widths, ...]
    teacher_identities: tuple[TeacherIdentity, ...]  # of those whose outputs are cached
    warnings: tuple[str, ...] = ()  # sentences: what is legal and probably not meant


def preflight(recipe: TrainRecipe, *, device: str = "auto", fetches: bool = True) -> CheckedRun:
    """Return the recipe checked against machine, data folders and networks; no image is decoded.

    Without ``fetches`` nothing is downloaded: networks stand there with random weights.

    Raises ``RecipeError``, ``DataError``, ``ModelError`` or ``CheckpointError`` for the first thing that does not fit.
    """
    chosen = pick_device(device)
    precision = pick_precision(recipe.precision, chosen)
    summary = describe_data(recipe.data)
    _check_validation(recipe, summary)
    if recipe.episodes is not None:
        check_ways(recipe.episodes, len(summary.label_names))
    _check_compiler(recipe, chosen)
    student = starting_student(recipe, summary, fetches=fetches)
    student_widths = widths(student)
    needs = needs_of(recipe.loss)
    if "cam" in needs:
        check_cam(student)
    if "classifier_weight" in needs:
        check_linear_classifier(student)
    _check_map(recipe, summary, student, student_widths, needs=_STUDENT_MAPS, place="model.name")
    optimizer = build_optimizer(recipe.optimizer, student, scales=learning_rate_scales(recipe, student))
    build_schedule(recipe.schedule, optimizer, epochs=recipe.epochs)
    if recipe.init is not None:
        frozen_stages(student, recipe.init)
    if is_solved_probe(recipe, student.config):
        linear_classifier(student)
    teachers = [_checked_teacher(config, recipe, summary, fetches=fetches) for config in recipe.teachers]
    checked = CheckedRun(
        recipe,
        precision,
        summary,
        student,
        tuple(teacher for teacher, _ in teachers),
        student_widths,
        tuple(sizes for _, sizes in teachers),
        # Here, since a run folds the teachers' BatchNorms later.
        tuple(
            teacher_identity(teacher)
            for config, (teacher, _) in zip(recipe.teachers, teachers, strict=True)
            if config.cache == "views"
        ),
    )
    _check_fit(checked)
    warnings = (*summary.warnings, *_cost_warnings(checked), *_length_warnings(checked))
    return checked._replace(warnings=warnings)


def starting_student(recipe: TrainRecipe, summary: DataSummary, *, fetches: bool) -> Classifier:
    """Return the student as training starts; random weights follow from the recipe's seed.

    Published weights are downloaded here if need be; without ``fetches`` random ones stand in for them.
    The generators stay as they are.
    """
    if recipe.init is None:
        student = _built(recipe, recipe.model, summary, fetches=fetches)
        student.notes += tuple(_kept_classifier(recipe.model, "model.pretrained", summary))
        return student
    start = starting_point(recipe.init, recipe.model)
    _check_start(recipe, start, summary)
    with init_errors():
        student = _built(recipe, start.model, summary, fetches=fetches)
    student.notes = tuple(map(init_message, student.notes))
    student.notes += tuple(_kept_classifier(start.model, "init.checkpoint", summary))
    if start.stored is not None and start.stored.image_size != summary.image_size:
        student.notes += (
            f"the network was trained on images of {start.stored.image_size} pixels and sees {summary.image_size} here",
        )
    return student


def with_class_names(checked: CheckedRun, label_names: Sequence[str]) -> CheckedRun:
    """Return a checked recipe whose data, read by now, has these classes.

    Some sources tell numbers in the place of names until they are read, and starting weights of classes that have
    the same number of other names get a new classifier.
    """
    summary = checked.summary._replace(label_names=tuple(label_names))
    if summary == checked.summary or checked.student.config.weights is None:
        return checked
    return checked._replace(summary=summary, student=starting_student(checked.recipe, summary, fetches=True))


def learning_rate_scales(recipe: TrainRecipe, student: Classifier) -> dict[str, float] | None:
    """Return the factor of each parameter's learning rate by its name in the student; None: they are all alike."""
    if recipe.init is None or recipe.init.layer_decay == 1:
        return None
    scales = layer_scales(student.network, recipe.init.layer_decay)
    return {f"network.{name}": scale for name, scale in scales.items()}


def shapes_of(checked: CheckedRun, train_targets: torch.Tensor) -> tuple[Shapes, ...]:
    """Return what the losses may know before training: one for each teacher, or one without any."""
    classes = len(checked.summary.label_names)
    return tuple(
        Shapes(checked.recipe.task, classes, train_targets, checked.student_widths, teacher)
        for teacher in checked.teacher_widths or (None,)
    )


def _built(recipe: TrainRecipe, model: ModelConfig, summary: DataSummary, *, fetches: bool) -> Classifier:
    config = model if fetches else model.model_copy(update={"pretrained": False})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return build_for_data(config, summary, recipe.task, label_names=summary.label_names)


def _kept_classifier(model: ModelConfig, key: str, summary: DataSummary) -> Iterator[str]:
    """Yield what must be known where a classifier of published weights is kept, whose classes have no names."""
    is_published = model.pretrained or (model.weights is not None and is_packaged(model.weights))
    if is_published and published_classes(model.name) == len(summary.label_names):
        yield (
            f"{key}: the published weights of {model.name} tell as many classes apart as the data has "
            f"({len(summary.label_names)}), so their classifier is kept; is the data of other classes, or in another "
            "order, it begins with wrong ones"
        )


def _check_start(recipe: TrainRecipe, start: StartingPoint, summary: DataSummary) -> None:
    assert recipe.init is not None
    problems = list(model_problems(recipe, start.model))
    if problems:
        raise RecipeError("\n  ".join(problems))
    stored, checkpoint = start.stored, recipe.init.checkpoint
    if recipe.init.is_probe and start.model.has_neck and not _brings_neck(start.model):
        raise RecipeError(
            f'init.frozen: found "all", but {checkpoint} has no neck (model.channel_attention, '
            "model.feature_channels), and a new one would stay as it was drawn; leave the neck out, or freeze a number "
            "of stages"
        )
    if is_packaged(checkpoint) and summary.channels != RGB:
        raise DataError(_other_channels(checkpoint, RGB, summary))
    if stored is None:
        return
    if stored.in_channels != summary.channels:
        raise DataError(_other_channels(checkpoint, stored.in_channels, summary))
    if stored.timm_args:
        load_classifier(expanded(checkpoint))  # proves that these arguments mean the network that is built


def _other_channels(checkpoint: str, channels: int, summary: DataSummary) -> str:
    return (
        f"init.checkpoint: {checkpoint} reads images of {channels} channels, the data has {summary.channels}; start "
        "from a network of such images, or set data.channels where the source has it"
    )


def _brings_neck(model: ModelConfig) -> bool:
    """Return whether the weights that a network starts from are of one with a neck, whatever a config.json says."""
    if model.weights is None:
        return False
    with init_errors():
        return holds_neck(starting_weights(model.weights).tensors)


def _checked_teacher(
    config: TeacherConfig, recipe: TrainRecipe, summary: DataSummary, *, fetches: bool
) -> tuple[Classifier, Widths]:
    teacher = load_teacher(config, summary, task=recipe.task, fetches=fetches)
    with teacher_errors():
        sizes = widths(teacher, image_size=summary.image_size)
        if needs_of(recipe.loss) & {"teacher.label_cam", "teacher.class_cams"}:
            check_cam(teacher)
    _check_map(recipe, summary, teacher, sizes, needs=_TEACHER_MAPS, place="teacher.checkpoint")
    return teacher, sizes


def _check_map(
    recipe: TrainRecipe,
    summary: DataSummary,
    classifier: Classifier,
    sizes: Widths,
    *,
    needs: frozenset[str],
    place: str,
) -> None:
    """Raise ``ModelError`` where losses read a network's last map (one of ``needs``) and it is not what they need."""
    name, readers = classifier.config.name, [loss for loss in recipe.loss if loss.needed() & needs]
    if not readers:
        return
    if sizes.height is None or sizes.width is None:
        raise ModelError(
            f"{place}: {name!r} has no feature map, and a loss of the recipe reads it; take another network"
        )
    of_places = [loss.name for loss in readers if not loss.takes_one_place]
    if sizes.height * sizes.width == 1 and of_places:
        raise ModelError(
            f"{place}: the last feature map of {name!r} is 1 x 1 on images of {summary.image_size} pixels, which "
            f"shows no place, and these losses read places: {listed(of_places)}; raise data.image_size or take a "
            "network that shrinks less"
        )


def _length_warnings(checked: CheckedRun) -> tuple[str, ...]:
    if is_solved_probe(checked.recipe, checked.student.config):
        return ()
    return length_warnings(checked.recipe, train_images=checked.summary.train_images)


def _cost_warnings(checked: CheckedRun) -> Iterator[str]:
    """Yield a sentence for each teacher that the student is no cheaper than: a student is there to be cheap."""
    if not checked.teachers:
        return
    size = checked.summary.image_size
    of_student = cost(checked.student, image_size=size)
    for config, teacher in zip(checked.recipe.teachers, checked.teachers, strict=True):
        with teacher_errors():
            of_teacher = cost(teacher, image_size=size)
        if of_student.parameters >= of_teacher.parameters or of_student.operations >= of_teacher.operations:
            yield (
                f"model.name: the student {checked.student.config.name} is not cheaper than its teacher "
                f"{config.checkpoint} ({teacher.config.name}): {of_student.text()} of the student, {of_teacher.text()} "
                f"of the teacher at {size} pixels; take a smaller student or a larger teacher unless this is meant"
            )


def _check_fit(checked: CheckedRun) -> None:
    no_labels = torch.empty(0, dtype=torch.int64)  # they have not been read
    for index, loss in enumerate(checked.recipe.loss):
        for shapes in shapes_of(checked, no_labels):
            reason = loss.misfit(shapes)
            if reason is not None:
                raise RecipeError(f"loss[{index}] ({loss.name}): {reason}")


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


__all__ = [
    "CheckedRun",
    "learning_rate_scales",
    "preflight",
    "shapes_of",
    "starting_student",
    "with_class_names",
]
