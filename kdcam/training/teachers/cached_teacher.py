"""Runs the teachers of a run once over all views, or finds what an earlier run kept, and lets the plan read that."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdcam.data.batches.batch import Batch, Batches
from kdcam.data.batches.image_digests_part import images_digest
from kdcam.data.batches.views import Views
from kdcam.data.dataset_parts import DataParts
from kdcam.data.datasets import batches
from kdcam.errors import CheckpointError, FolderInUseError, Interrupted, ModelError
from kdcam.files.folder_lock import FolderLock
from kdcam.files.folders import cache_folder_errors, teacher_cache_folder
from kdcam.models.classifier import Classifier, teacher_outputs
from kdcam.runtime.numerics import FiniteCheck
from kdcam.runtime.precision import Precision
from kdcam.runtime.progress import Progress
from kdcam.training.assembly import EVALUATION_BATCH
from kdcam.training.engine import Plan
from kdcam.training.preflight import CheckedRun
from kdcam.training.teachers.cache_entries import (
    CacheEntry,
    cache_entries,
    cached_views,
    entry_tensors,
    megabytes_text,
    output_shapes,
    teacher_needs,
)
from kdcam.training.teachers.cache_folder import EntryShapes, open_arrays
from kdcam.training.teachers.cache_key import CacheKey, cache_key
from kdcam.training.teachers.cached_teacher_part import CachedTeacher
from kdcam.training.teachers.contents import CacheContents, changed_versions, read_contents
from kdcam.training.teachers.filling import CacheWriter
from kdcam.training.teachers.teaching import live_classifiers

_POLL_SECONDS = 0.5
_LARGEST_HALF = torch.finfo(torch.float16).max


class _Job(NamedTuple):
    """One teacher's outputs to be kept."""

    teacher: Classifier
    entries: tuple[CacheEntry, ...]
    folder: Path
    key: CacheKey
    all_views: Callable[[], Batches]  # of these, epoch v is view v of every training image, in order
    image_size: int
    precision: Precision
    progress: Progress


def cache_teachers(checked: CheckedRun, parts: DataParts, plan: Plan, progress: Progress) -> Plan:
    """Return the plan with the kept outputs of its teachers in their place; what is not kept yet is made here.

    The plan must be that of `kdcam.training.assembly.assemble` for a recipe with teacher.cache = "views". The
    generators stay as they are.

    Raises ``CheckpointError`` where a given folder holds the cache of something else, cannot be read or written or has
    not enough space, ``DataError`` where a picture cannot be read, ``ModelError`` where an output is beyond fp16's
    range or no number, ``Interrupted`` where the watcher asks to stop.
    """
    recipe = checked.recipe
    views = cached_views(recipe)
    if views is None:
        raise ValueError('the recipe has teacher.cache = "none", so there is nothing to keep')
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
    """Return the kept outputs of one teacher, made now where they are not there."""
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
    told = False
    while True:
        try:
            return FolderLock(job.folder)
        except FolderInUseError:
            if not told:
                job.progress.message(
                    f"{job.folder}: another process fills this teacher cache; waiting for it"
                )
            told = True
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
    filling = CacheWriter(job.folder, job.key, contents, entries)
    _tell(job, entries, filling)
    all_views = job.all_views()
    with filling, torch.random.fork_rng(devices=[]):
        for view in range(filling.views_done, job.key.views.per_image):
            _fill_view(job, filling, all_views, view, needs)
            filling.end_view()
        filling.finish()
    return read_contents(job.folder, job.key)


def _tell(job: _Job, entries: tuple[EntryShapes, ...], filling: CacheWriter) -> None:
    views, images = job.key.views.per_image, job.key.data.images
    going_on = f", going on after view {filling.views_done}" if filling.views_done else ""
    job.progress.message(
        f"teacher cache: {megabytes_text(filling.whole_bytes)} ({', '.join(entry.name for entry in entries)}) for "
        f"{views} view{'' if views == 1 else 's'} of {images:,} images will be kept in {job.folder}{going_on}"
    )
    with cache_folder_errors(f"{job.folder} tells no free space", "name another folder"):
        free = shutil.disk_usage(job.folder).free + filling.torn_bytes
    if filling.missing_bytes > free:
        raise CheckpointError(
            f"teacher.cache_folder: {job.folder} has {megabytes_text(free)} free, and the teacher's outputs take "
            f"{megabytes_text(filling.missing_bytes)} more; name a folder on another disk, lower teacher.views, or set "
            'teacher.cache = "none"'
        )


def _fill_view(job: _Job, filling: CacheWriter, all_views: Batches, view: int, needs: frozenset[str]) -> None:
    images, views = job.key.data.images, job.key.views.per_image
    done = view * images
    for batch in all_views.epoch(view):
        if job.progress.should_stop():
            raise Interrupted(
                f"{job.folder}: stopped in view {view + 1} of {views} of the teacher's outputs; views before it are "
                "kept, the same command goes on"
            )
        filling.append(_outputs(job, batch, needs))
        done += len(batch.indices)
        job.progress.advance("teacher's views", done, views * images)


def _outputs(job: _Job, batch: Batch, needs: frozenset[str]) -> list[Tensor]:
    """Return what is kept of a batch, in the order of the entries: fp16 on the CPU."""
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


__all__ = ["cache_teachers"]
