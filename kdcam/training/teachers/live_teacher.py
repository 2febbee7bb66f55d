"""Teachers that are run at each step: where they come from, and whether they fit the data before any work."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from kdcam.data.batches.batch import Batch, Batches
from kdcam.data.dataset_parts import DataSummary
from kdcam.errors import CheckpointError, DataError, KdcamError, ModelError, RecipeError
from kdcam.files.folder_listing import nfc
from kdcam.files.paths import exists, expanded, is_file, is_folder
from kdcam.files.weight_location import CONFIG_FILE, location_kind
from kdcam.models.build import build_for_data
from kdcam.models.classifier import Classifier, Preprocessing, Task, TeacherOutputs, teacher_outputs
from kdcam.models.model_config import ModelConfig
from kdcam.models.weights.config_json import read_config
from kdcam.models.weights.foreign_checkpoints import CIFAR100_STATISTICS, architecture_from_path, is_foreign
from kdcam.models.weights.published_networks import published_classes
from kdcam.models.weights.starting_weights import STARTS_AFRESH, stored_statistics
from kdcam.recipe.recipe_fields import TeacherConfig
from kdcam.runs.checkpoint import load_classifier
from kdcam.runtime.progress import Progress
from kdcam.scores.classification import score
from kdcam.settings.messages import listed
from kdcam.training.engine import Teacher
from kdcam.training.starting_point import is_bare_file


@dataclass(frozen=True)
class LiveTeacher:
    """A teacher that is run on each batch; its classifier is in eval mode."""

    classifier: Classifier

    def outputs(self, batch: Batch, needs: frozenset[str]) -> TeacherOutputs:
        """Return what ``needs`` names of a batch; see `teacher_outputs` for the errors."""
        return teacher_outputs(self.classifier, batch.images, batch.targets, needs)


def live_classifiers(teachers: Sequence[Teacher]) -> tuple[Classifier, ...]:
    """Return the classifiers of teachers that are all run; ``ValueError`` where one is not."""
    live = tuple(teacher.classifier for teacher in teachers if isinstance(teacher, LiveTeacher))
    if len(live) < len(teachers):
        raise ValueError(
            f"{len(teachers) - len(live)} of {len(teachers)} teachers are read and have no classifier"
        )
    return live


# How teachers are judged, frozen and read: docs/decisions/013.
def load_teacher(
    config: TeacherConfig, summary: DataSummary, *, task: Task = "single-label", fetches: bool
) -> Classifier:
    """Return the teacher in eval mode: a run folder, a file, or a network with published weights by its name.

    Without ``fetches`` nothing is downloaded: random weights stand in for published ones. Its ``notes`` say what the
    user should know; it knows names of classes only from a config.json.

    Raises ``CheckpointError``, ``ModelError``, ``RecipeError``, or ``DataError`` where its classes or channels are not
    the data's.
    """
    checkpoint, path = config.checkpoint, expanded(config.checkpoint)
    if is_file(path) and is_bare_file(checkpoint):
        return _from_bare_file(config, path, summary, task)
    if exists(path):
        _check_unused(config)
        return _from_folder(checkpoint, path, summary, task)
    if location_kind(checkpoint) == "missing":
        raise CheckpointError(
            f"teacher.checkpoint: {checkpoint} is not there; give a run folder, a .safetensors or .pth file, or the "
            "name of a timm or torchvision network"
        )
    _check_unused(config)
    return _by_name(checkpoint, summary, task, fetches=fetches)


@contextmanager
def teacher_errors(name_key: str = "teacher.checkpoint") -> Iterator[None]:
    """Let the errors about a teacher's network name its keys; ``name_key`` is the one in the place of model.name."""
    place = "teacher.checkpoint"
    keys = {
        "weights": place,
        "pretrained": place,
        "mean": "teacher.mean",
        "std": "teacher.std",
        "name": name_key,
    }
    try:
        yield
    except KdcamError as error:
        # A teacher has no keys for a neck or a head: only a config.json tells these.
        text, own_way_out, _ = str(error).partition("; set model.")
        text = text.replace("set pretrained = false or ", "")
        text = re.sub(rf"\bmodel\.({'|'.join(keys)})\b", lambda match: keys[match[1]], text)
        if own_way_out:
            text += "; give the run folder, whose config.json tells the network"
        raise type(error)(text) from error


def _from_folder(checkpoint: str, path: Path, summary: DataSummary, task: Task) -> Classifier:
    if is_folder(path) and not is_file(path / CONFIG_FILE):
        _point_to_files(checkpoint, path)
    stored = read_config(path)
    _check_classes(checkpoint, stored.label_names, stored.num_classes, summary)
    _check_channels(checkpoint, stored.in_channels, summary)
    if stored.task != task:
        raise RecipeError(
            f"teacher.checkpoint: {checkpoint} was trained with task = {stored.task!r}, the recipe has task = "
            f"{task!r}, so that their logits mean different things; take a teacher of the same task"
        )
    return load_classifier(path)


def _point_to_files(checkpoint: str, folder: Path) -> None:
    """Raise ``CheckpointError`` where a folder holds files of torch.save, one of which is meant."""
    files = sorted(str(file) for file in folder.iterdir() if is_file(file) and is_foreign(file))
    if files:
        raise CheckpointError(
            f"teacher.checkpoint: {checkpoint} is a folder without {CONFIG_FILE}; give the file in it: {listed(files)}"
        )


def _by_name(checkpoint: str, summary: DataSummary, task: Task, *, fetches: bool) -> Classifier:
    with teacher_errors():
        classes, needed = published_classes(checkpoint), len(summary.label_names)
        if classes is None:
            raise ModelError(
                f"teacher.checkpoint: {checkpoint} is no run folder or file, and a network of this name has no "
                "published weights; train it (kdcam train) and give its run folder"
            )
        if classes != needed:
            found = f"tell {classes} classes apart" if classes else "have no classifier"
            raise DataError(
                f"teacher.checkpoint: the published weights of {checkpoint} {found}, and the data has {needed} "
                "classes; train the network on the data first (kdcam train with pretrained = true in [model]) and give "
                "its run folder"
            )
        return _built(ModelConfig(name=checkpoint, pretrained=fetches), summary, task)


def _from_bare_file(config: TeacherConfig, path: Path, summary: DataSummary, task: Task) -> Classifier:
    """Return the network of a file that says nothing but its weights, as the distillation literature stores them."""
    name = config.name or architecture_from_path(path)
    if name is None:
        raise CheckpointError(
            f"teacher.checkpoint: {path} does not say which network it is of, and its folder's name tells none; set "
            'teacher.name, as in name = "kdcam:resnet32x4"'
        )
    with teacher_errors("teacher.name"):
        usual = _usual_statistics(path, name, summary.channels)
        model = ModelConfig(
            name=name,
            weights=str(path),
            mean=config.mean or (usual and usual.mean),
            std=config.std or (usual and usual.std),
        )
        teacher = _built(model, summary, task)
    afresh = [note for note in teacher.notes if note.endswith(STARTS_AFRESH)]
    if afresh:  # as in "model.weights has 100 classes, the data 10: ..."
        counts = afresh[0].removesuffix(STARTS_AFRESH).removeprefix("model.weights ")
        raise DataError(
            f"teacher.checkpoint: {path} {counts}; teacher and student must learn the same classes"
        )
    teacher.notes = tuple(note.replace("model.weights", "teacher.checkpoint") for note in teacher.notes)
    unset = [f"teacher.{key}" for key in ("mean", "std") if getattr(config, key) is None]
    if unset:
        mean, std = (", ".join(f"{value:g}" for value in values) for values in teacher.preprocessing)
        teacher.notes = (
            *teacher.notes,
            f"teacher {path}: its images are normalised with mean {mean} and std {std}; set {' and '.join(unset)} if "
            "it was trained with others",
        )
    return teacher


def _usual_statistics(path: Path, name: str, channels: int) -> Preprocessing | None:
    """Return what a file's network reads where nothing is set: what stands beside it, else CIFAR-100's of kdcam's.

    None: what the network's source has.
    """
    if stored_statistics(str(path), name) is not None or not name.startswith("kdcam:"):
        return None  # build_classifier finds them itself
    mean, std = CIFAR100_STATISTICS
    if channels == len(mean):
        return Preprocessing(mean, std)
    return Preprocessing((sum(mean) / len(mean),), (sum(std) / len(std),))


def _built(config: ModelConfig, summary: DataSummary, task: Task) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        # The summary's names may be numbers that stand in until the data is read, and the weights tell none.
        return build_for_data(config, summary, task, label_names=()).eval()


def _check_unused(config: TeacherConfig) -> None:
    for key in ("name", "mean", "std"):
        if getattr(config, key) is not None:
            raise RecipeError(
                f"teacher.{key}: is for a file without config.json, and {config.checkpoint} is none; remove the key"
            )


def score_teachers(
    configs: Sequence[TeacherConfig],
    teachers: Sequence[Classifier],
    validation: Batches | None,
    progress: Progress,
) -> None:
    """Tell what each teacher scores on the validation part; ``DataError`` where one is worse than guessing."""
    if validation is None:
        return
    for config, teacher in zip(configs, teachers, strict=True):
        report = score(teacher, validation, place=f"teacher {config.checkpoint}, validation part")
        scores = report.headline()
        name, value = next(iter(scores.items()))
        progress.message(f"teacher {config.checkpoint}: {name} {value:.4g} on the validation part")
        warning = check_teacher_scores(config.checkpoint, scores, report.images, teacher.num_classes)
        if warning is not None:
            progress.warning(warning)


def check_teacher_scores(
    checkpoint: str, scores: Mapping[str, float], images: int, num_classes: int
) -> str | None:
    """Return a warning where a teacher's top-1 accuracy on ``images`` validation images may be chance; else None.

    Raises ``DataError`` where it is below chance by more than chance explains (2 standard deviations): then its
    classes are in another order, or it reads the images otherwise. Several labels an image are not judged.
    """
    accuracy = scores.get("acc1")
    if accuracy is None:
        return None
    chance = 1 / num_classes
    slack = 2 * math.sqrt(chance * (1 - chance) / images)
    found = f"teacher.checkpoint: {checkpoint} has top-1 accuracy {accuracy:.2%} on the validation part, "
    if accuracy < chance - slack:
        raise DataError(
            f"{found}less than guessing ({chance:.2%}): its classes may be in another order, or its images normalised "
            "otherwise; take a teacher of this data"
        )
    if accuracy <= chance + slack:
        return f"{found}no better than guessing ({chance:.2%}); it has little to teach"
    return None


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
        if nfc(taught) != nfc(own):
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


__all__ = [
    "LiveTeacher",
    "check_class_order",
    "check_teacher_scores",
    "live_classifiers",
    "load_teacher",
    "score_teachers",
    "teacher_errors",
]
