"""Teachers whose outputs are cached: which for which views, run once unless an earlier run did, then read."""

import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.batch import EVALUATION_BATCH, Batch, Batches, Views
from kdcam.data.batches.image_digests import images_digest
from kdcam.data.dataset_parts import DataParts
from kdcam.data.datasets import batches
from kdcam.errors import CheckpointError, FolderInUseError, Interrupted, ModelError
from kdcam.files.digests import targets_digest
from kdcam.files.folder_lock import FolderLock
from kdcam.files.paths import teacher_cache_folder
from kdcam.losses.loss import needs_of
from kdcam.models.classifier import Classifier, TeacherOutputs, teacher_outputs
from kdcam.recipe.train_recipe import TrainRecipe
from kdcam.runtime.eval_mode import eval_mode
from kdcam.runtime.numerics import FiniteCheck
from kdcam.runtime.precision import Precision
from kdcam.runtime.progress import Progress
from kdcam.training.engine import Plan
from kdcam.training.preflight import CheckedRun
from kdcam.training.teachers.cache_folder import (
    SEVERAL,
    CacheContents,
    CacheWriter,
    EntryShapes,
    Shape,
    array_bytes,
    cache_folder_errors,
    changed_versions,
    open_arrays,
    read_contents,
)
from kdcam.training.teachers.cache_key import CacheKey, cache_key
from kdcam.training.teachers.live_teacher import live_classifiers

_FEWEST_VIEWS, _MOST_VIEWS, _EPOCHS_A_VIEW = 4, 16, 4
_GPU_SHARE = 0.5  # of a GPU's free memory that the arrays may take; the student needs the rest
_LABEL_CAM = "teacher.label_cam"
_LARGEST_HALF = torch.finfo(torch.float16).max
_POLL_SECONDS = 0.5


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


# Why a few seeded views, and what is never cached: docs/decisions/014.
class CachedTeacher:
    """A teacher's cached outputs for each view of each training image."""

    def __init__(self, arrays: Mapping[str, tuple[Tensor, ...]], *, device: torch.device) -> None:
        """Take the arrays (V, N, ...) fp16 of each need; they go to a GPU where they fit into half of its free memory.

        Elsewhere they stay where they are: files in the page cache, which processes share.
        """
        held = [array for group in arrays.values() for array in group]
        self._device = device
        self._images = held[0].shape[1] if held else 0
        size = sum(array.nbytes for array in held)
        self.place = device if device.type == "cpu" or _has_room(device, size) else torch.device("cpu")
        # From other memory a copy to a GPU makes the host wait.
        self._pins = device.type == "cuda" and self.place.type == "cpu"
        self._arrays = {
            need: tuple(array.flatten(0, 1).to(self.place) for array in group)
            for need, group in arrays.items()
        }

    def outputs(self, batch: Batch, needs: frozenset[str]) -> TeacherOutputs:
        """Return what the teacher said of a batch's images in their views, in float32 on the run's device.

        ``needs`` are the losses'; of these, names that begin with ``teacher.`` count. The host waits for no GPU. Raises
        ``ValueError`` for a batch that has no views.
        """
        if batch.views is None or batch.host_indices is None:
            raise ValueError("the batch has no views, and a cached teacher knows no other images")
        rows = (batch.views * self._images + batch.host_indices).to(self.place, non_blocking=True)
        read: dict[str, Any] = {}
        for need, group in self._arrays.items():
            if need in needs:
                name, gathered = output_name(need), tuple(self._gathered(array, rows) for array in group)
                read[name] = gathered if name in SEVERAL else gathered[0]
        return TeacherOutputs(**read)

    def _gathered(self, array: Tensor, rows: Tensor) -> Tensor:
        gathered = array[rows]
        if self._pins:
            gathered = gathered.pin_memory()
        return gathered.to(self._device, non_blocking=True).to(torch.float32)


def _has_room(device: torch.device, size: int) -> bool:
    return device.type == "cuda" and size < _GPU_SHARE * torch.cuda.mem_get_info(device)[0]


class _Job(NamedTuple):
    """One teacher's outputs to be cached."""

    teacher: Classifier
    entries: tuple[CacheEntry, ...]
    folder: Path
    key: CacheKey
    all_views: Callable[[], Batches]  # of these, epoch v is view v of every training image, in order
    image_size: int
    precision: Precision
    progress: Progress


def cache_teachers(checked: CheckedRun, parts: DataParts, plan: Plan, progress: Progress) -> Plan:
    """Return the plan with the cached outputs of its teachers in their place; what is not cached yet is made here.

    The plan must be that of `kdcam.training.assembly.assemble` for a recipe with teacher.cache = "views". The
    generators stay as they are.

    Raises ``CheckpointError`` where a given folder holds the cache of something else, cannot be read or written or has
    not enough space, ``DataError`` where a picture cannot be read, ``ModelError`` where an output is beyond fp16's
    range or no number, ``Interrupted`` where the watcher asks to stop.
    """
    recipe = checked.recipe
    views = cached_views(recipe)
    if views is None:
        raise ValueError('the recipe has teacher.cache = "none", so there is nothing to cache')
    images = images_digest(parts.train.images, progress=progress)
    # Made when the first teacher wants them: they may take as much memory as the training images.
    all_views = cache(partial(_all_views, checked, parts, views))
    cached = []
    for config, teacher, identity in zip(
        recipe.teachers, live_classifiers(plan.teachers), checked.teacher_identities, strict=True
    ):
        key = cache_key(
            identity,
            parts.train,
            images=images,
            image_size=parts.image_size,
            augment=recipe.data.augment,
            views=views,
            precision=checked.precision,
        )
        job = _Job(
            teacher=teacher,
            entries=cache_entries(teacher_needs(recipe), parts.train.targets),
            folder=teacher_cache_folder(config.cache_folder, key.name),
            key=key,
            all_views=all_views,
            image_size=parts.image_size,
            precision=checked.precision,
            progress=progress,
        )
        cached.append(_cached(job))
    return plan._replace(teachers=tuple(cached))


def _all_views(checked: CheckedRun, parts: DataParts, views: Views) -> Batches:
    return batches(
        parts.train,
        batch_size=EVALUATION_BATCH,
        training=False,
        config=checked.recipe.data,
        seed=checked.recipe.seed,
        device=checked.precision.device,
        views=views,
    )


def _cached(job: _Job) -> CachedTeacher:
    """Return the cached outputs of one teacher, made now where they are not there."""
    contents = read_contents(job.folder, job.key)
    _warn_of_versions(job, contents)
    if _missing(job, contents):
        with _locked(job):
            contents = _filled(job, read_contents(job.folder, job.key))
    shapes = {entry.name: entry for entry in contents.whole}
    views, images = job.key.views.per_image, job.key.data.images
    arrays = {
        entry.need: open_arrays(job.folder, shapes[entry.name], views=views, images=images)
        for entry in job.entries
    }
    return CachedTeacher(arrays, device=job.precision.device)


def _warn_of_versions(job: _Job, contents: CacheContents) -> None:
    for package, (before, now) in changed_versions(contents).items():
        job.progress.warning(
            f"{job.folder}: {package} was {before} when this teacher cache was begun and is {now} now: views may be "
            "drawn otherwise than the teacher saw them; remove the folder to have the cache made again"
        )


def _missing(job: _Job, contents: CacheContents) -> tuple[CacheEntry, ...]:
    whole = {entry.name for entry in contents.whole}
    return tuple(entry for entry in job.entries if entry.name not in whole)


@contextmanager
def _locked(job: _Job) -> Iterator[None]:
    """Hold the lock on the folder; where another process fills it, wait until that has ended."""
    with cache_folder_errors(f"{job.folder} cannot be made or locked", "name a folder that you may write to"):
        job.folder.mkdir(parents=True, exist_ok=True)
        lock = _lock_when_free(job)
    try:
        yield
    finally:
        lock.release()


def _lock_when_free(job: _Job) -> FolderLock:
    was_told = False
    while True:
        try:
            return FolderLock(job.folder)
        except FolderInUseError:
            if not was_told:
                job.progress.message(
                    f"{job.folder}: another process fills this teacher cache; waiting for it"
                )
            was_told = True
        if job.progress.should_stop():
            raise Interrupted(f"{job.folder}: stopped while another process fills this cache")
        time.sleep(_POLL_SECONDS)


def _filled(job: _Job, contents: CacheContents) -> CacheContents:
    """Return the contents of a locked folder after the missing entries have been made."""
    missing = _missing(job, contents)
    if not missing:  # made by the process that held the lock before
        return contents
    needs = frozenset(entry.need for entry in missing)
    measured = output_shapes(job.teacher, needs, image_size=job.image_size)
    entries = tuple(EntryShapes(entry.name, measured[entry.need]) for entry in missing)
    writer = CacheWriter(job.folder, job.key, contents, entries)
    _tell(job, entries, writer)
    all_views = job.all_views()
    with writer, torch.random.fork_rng(devices=[]):
        for view in range(writer.views_done, job.key.views.per_image):
            _fill_view(job, writer, all_views, view, needs)
            writer.end_view()
        writer.finish()
    return read_contents(job.folder, job.key)


def _tell(job: _Job, entries: tuple[EntryShapes, ...], writer: CacheWriter) -> None:
    views, images = job.key.views.per_image, job.key.data.images
    going_on = f", going on after view {writer.views_done}" if writer.views_done else ""
    job.progress.message(
        f"teacher cache: {megabytes_text(writer.whole_bytes)} ({', '.join(entry.name for entry in entries)}) for "
        f"{views} view{'' if views == 1 else 's'} of {images:,} images will be kept in {job.folder}{going_on}"
    )
    with cache_folder_errors(f"{job.folder} tells no free space", "name another folder"):
        free = shutil.disk_usage(job.folder).free + writer.torn_bytes
    if writer.missing_bytes > free:
        raise CheckpointError(
            f"teacher.cache_folder: {job.folder} has {megabytes_text(free)} free, and the teacher's outputs take "
            f"{megabytes_text(writer.missing_bytes)} more; name a folder on another disk, lower teacher.views, or set "
            'teacher.cache = "none"'
        )


def _fill_view(job: _Job, writer: CacheWriter, all_views: Batches, view: int, needs: frozenset[str]) -> None:
    images, views = job.key.data.images, job.key.views.per_image
    done = view * images
    for batch in all_views.epoch(view):
        if job.progress.should_stop():
            raise Interrupted(
                f"{job.folder}: stopped in view {view + 1} of {views} of the teacher's outputs; views before it are "
                "kept, the same command goes on"
            )
        writer.append(_outputs(job, batch, needs))
        done += len(batch.indices)
        job.progress.advance("teacher's views", done, views * images)


def _outputs(job: _Job, batch: Batch, needs: frozenset[str]) -> list[Tensor]:
    """Return what is cached of a batch, in the order of the entries: fp16 on the CPU."""
    with job.precision.autocast():
        outputs = teacher_outputs(job.teacher, batch.images, batch.targets, needs)
    return [
        _in_half(one, entry.need, batch.indices)
        for entry in job.entries
        if entry.need in needs
        for one in entry_tensors(outputs, entry.need)
    ]


def _in_half(tensor: Tensor, need: str, images: Tensor) -> Tensor:
    """Return a batch's outputs (N, ...) in fp16 on the CPU; ``images`` (N,): their positions in the training part."""
    half = tensor.to(torch.float16)
    if bool(half.isfinite().all()):
        return half.cpu()
    check = FiniteCheck(need)
    if not check.take(tensor):
        positions = images.tolist()
        check.require(
            "teacher.checkpoint",
            lambda place: f"training image {positions[place]}",
            way_out='check the teacher\'s weights, or set precision = "fp32"',
        )
    largest = tensor.abs().max().item()
    raise ModelError(
        f'teacher.cache: found "views", but {need} reaches {largest:.4g}, and fp16 ends at {_LARGEST_HALF:g}; set '
        'teacher.cache = "none"'
    )


def cache_forecast(checked: CheckedRun) -> str | None:
    """Return how large the caches of a run's teachers are when they are whole, and where; None without any.

    Of data whose number of images only reading tells, the size is that of one image.
    """
    recipe, summary = checked.recipe, checked.summary
    views = cached_views(recipe)
    if views is None:
        return None
    needs, images = teacher_needs(recipe), summary.train_images
    size = sum(
        array_bytes((views.per_image, 1 if images is None else images, *shape))
        for teacher in checked.teachers
        for group in output_shapes(teacher, needs, image_size=summary.image_size).values()
        for shape in group
    )
    folders = dict.fromkeys(str(teacher_cache_folder(config.cache_folder)) for config in recipe.teachers)
    of = "an image" if images is None else f"for {images:,} images"
    return f"{megabytes_text(size)} {of}, {views.per_image} views each, in {', '.join(folders)}"


def megabytes_text(size: int) -> str:
    """Return a number of bytes in words, exact to three digits at least: 12.3 MB."""
    megabytes = size / 1e6
    digits = max(0, 2 - math.floor(math.log10(megabytes))) if megabytes > 0 else 0
    return f"{megabytes:,.{digits}f} MB"


__all__ = [
    "CacheEntry",
    "CachedTeacher",
    "cache_entries",
    "cache_forecast",
    "cache_teachers",
    "cached_views",
    "entry_tensors",
    "megabytes_text",
    "output_name",
    "output_shapes",
    "teacher_needs",
    "usual_views",
]
