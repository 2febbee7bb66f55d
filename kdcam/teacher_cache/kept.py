"""What is kept of a teacher: which of its outputs, under which names, and how many bytes they take."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.views import Views
from kdcam.losses.loss import needs_of
from kdcam.models.classifier import Classifier, TeacherOutputs, teacher_outputs
from kdcam.modes import evaluating
from kdcam.recipe import TrainRecipe
from kdcam.teacher_cache.fingerprints import targets_digest

Shape = tuple[int, ...]

LABEL_CAM = "teacher.label_cam"
_BYTES = 2  # of a number in fp16
_HEADER = 128  # of a .npy file


class Entry(NamedTuple):
    """One need of the losses as it is kept: an array, or for the stages an array each."""

    need: str  # teacher.logits, teacher.label_cam ...
    name: str  # which its files begin with


def cached_views(recipe: TrainRecipe) -> Views | None:
    """Return the views that the recipe's teachers see and its training draws from; None without a cache.

    Where nothing is augmented all views of an image are equal, and there is one.
    """
    if not recipe.teachers or recipe.teachers[0].cache == "none":
        return None
    first = recipe.teachers[0]  # the others have the same
    return Views(first.views if recipe.data.augment else 1, first.views_seed)


def teacher_needs(recipe: TrainRecipe) -> frozenset[str]:
    """Return what the recipe's losses read of a teacher."""
    return frozenset(need for need in needs_of(recipe.loss) if need.startswith("teacher."))


def entries_of(needs: Iterable[str], targets: Tensor) -> tuple[Entry, ...]:
    """Return how each need is kept; the map of the label is named after the training targets as well."""
    return tuple(
        Entry(
            need, need.partition(".")[2] + (f"-{targets_digest(targets)[:12]}" if need == LABEL_CAM else "")
        )
        for need in sorted(needs)
    )


def kept_shapes(
    teacher: Classifier, needs: Iterable[str], *, image_size: int
) -> dict[str, tuple[Shape, ...]]:
    """Return the shapes of each need's arrays for one image, measured on a black one of ``image_size`` pixels."""
    device = teacher.mean.device
    image = torch.zeros(1, teacher.in_channels, image_size, image_size, device=device)
    label = torch.zeros(1, dtype=torch.int64, device=device)
    needs = frozenset(needs)
    with evaluating(teacher), torch.autocast(device.type, enabled=False):
        outputs = teacher_outputs(teacher, image, label, needs)
    return {
        need: tuple(tuple(one.shape[1:]) for one in kept_tensors(outputs, need)) for need in sorted(needs)
    }


def kept_tensors(outputs: TeacherOutputs, need: str) -> tuple[Tensor, ...]:
    """Return the tensors (N, ...) of a need; none of the stages of a network that tells none."""
    value = getattr(outputs, need.partition(".")[2])
    return value if isinstance(value, tuple) else (value,)


def file_names(name: str, arrays: int) -> list[str]:
    """Return the names of an entry's files: ``arrays`` of the stages, else one."""
    if name != "stages":
        return [f"{name}.npy"]
    return [f"{name}-{number}.npy" for number in range(arrays)]


def kept_bytes(shapes: Iterable[Shape], *, views: int, images: int) -> int:
    """Return the bytes of the files of arrays of these shapes an image, for ``views`` views of ``images`` images."""
    return sum(_HEADER + views * images * math.prod(shape) * _BYTES for shape in shapes)


def in_megabytes(size: int) -> str:
    """Return a number of bytes in words, exact to three digits at least: 12.3 MB."""
    megabytes = size / 1e6
    digits = max(0, 2 - math.floor(math.log10(megabytes))) if megabytes > 0 else 0
    return f"{megabytes:,.{digits}f} MB"


__all__ = [
    "LABEL_CAM",
    "Entry",
    "Shape",
    "cached_views",
    "entries_of",
    "file_names",
    "in_megabytes",
    "kept_bytes",
    "kept_shapes",
    "kept_tensors",
    "teacher_needs",
]
