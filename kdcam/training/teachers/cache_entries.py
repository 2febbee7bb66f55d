"""What is cached of a teacher: which of its outputs, for which views, under which names and in which shapes."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.batch import Views
from kdcam.files.digests import targets_digest
from kdcam.losses.loss import needs_of
from kdcam.models.classifier import Classifier, TeacherOutputs, teacher_outputs
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runtime.eval_mode import eval_mode
from kdcam.training.teachers.cache_folder import Shape

_LABEL_CAM = "teacher.label_cam"
_FEWEST_VIEWS, _MOST_VIEWS, _EPOCHS_A_VIEW = 4, 16, 4


class CacheEntry(NamedTuple):
    """One need of losses or of the attack as it is cached: an array, or for the stages an array each."""

    need: str  # teacher.logits, teacher.label_cam ...
    name: str  # which its files begin with


def cached_views(recipe: TrainRecipe) -> Views | None:
    """Return the views that the recipe's teachers see and its training draws from; None without a cache.

    Where nothing is augmented all views of an image are equal, whatever the seed: there is one, of seed 0. The usual
    number of views is kdcam's choice, from docs/results/cache-views.md: few views that are seen often cost accuracy.
    """
    if not recipe.teachers or recipe.teachers[0].cache == "none":
        return None
    first = recipe.teachers[0]  # the others have the same
    if not recipe.data.augment:
        return Views(1, 0)
    return Views(first.views or usual_views(recipe.epochs), first.views_seed)


def usual_views(epochs: int) -> int:
    """Return how many views a run of so many epochs draws from unless its recipe says: 4 to 16."""
    return min(_MOST_VIEWS, max(_FEWEST_VIEWS, -(-epochs // _EPOCHS_A_VIEW)))


def teacher_needs(recipe: TrainRecipe) -> frozenset[str]:
    """Return what a recipe's losses and its attack read of a teacher."""
    needs = needs_of(recipe.loss)
    if recipe.adversary is not None:
        needs |= recipe.adversary.needs
    return frozenset(need for need in needs if need.startswith("teacher."))


def output_name(need: str) -> str:
    """Return the field of `TeacherOutputs` that a need reads: logits of teacher.logits."""
    return need.partition(".")[2]


def cache_entries(needs: Iterable[str], targets: Tensor) -> tuple[CacheEntry, ...]:
    """Return how each need is cached; the map of the label is named after the training targets as well."""

    def entry(need: str) -> CacheEntry:
        suffix = f"-{targets_digest(targets)[:12]}" if need == _LABEL_CAM else ""
        return CacheEntry(need, output_name(need) + suffix)

    return tuple(map(entry, sorted(needs)))


def output_shapes(
    teacher: Classifier, needs: Iterable[str], *, image_size: int
) -> dict[str, tuple[Shape, ...]]:
    """Return the shapes of each need's arrays for one image, measured on a black one of ``image_size`` pixels."""
    device = teacher.mean.device
    image = torch.zeros(1, teacher.in_channels, image_size, image_size, device=device)
    label = torch.zeros(1, dtype=torch.int64, device=device)
    needs = frozenset(needs)
    with eval_mode(teacher), torch.autocast(device.type, enabled=False):
        outputs = teacher_outputs(teacher, image, label, needs)
    return {
        need: tuple(tuple(one.shape[1:]) for one in entry_tensors(outputs, need)) for need in sorted(needs)
    }


def entry_tensors(outputs: TeacherOutputs, need: str) -> tuple[Tensor, ...]:
    """Return the tensors (N, ...) of a need; none of the stages of a network that tells none."""
    value = getattr(outputs, output_name(need))
    return value if isinstance(value, tuple) else (value,)


def megabytes_text(size: int) -> str:
    """Return a number of bytes in words, exact to three digits at least: 12.3 MB."""
    megabytes = size / 1e6
    digits = max(0, 2 - math.floor(math.log10(megabytes))) if megabytes > 0 else 0
    return f"{megabytes:,.{digits}f} MB"


__all__ = [
    "CacheEntry",
    "cache_entries",
    "cached_views",
    "entry_tensors",
    "megabytes_text",
    "output_name",
    "output_shapes",
    "teacher_needs",
    "usual_views",
]
