"""verify: whether runs tell one person from two in pairs of pictures, all on the same pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch

from kdcam.api import Weights, load
from kdcam.atomic import make_folder, write_atomically
from kdcam.data.batches import Batches
from kdcam.data.config import RESIDENT_LIMIT
from kdcam.data.pairs import Numbers, Pairs, folds_of, read_pairs
from kdcam.data.picture_files import read_resident
from kdcam.data.resident import ResidentBatches, ResidentImages
from kdcam.data.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.errors import DataError, ModelError
from kdcam.json_files import write_json
from kdcam.models.classifier import Classifier
from kdcam.progress import Progress, Silent
from kdcam.run_state import RECIPE_FILE, VERIFICATION_FILE
from kdcam.teacher_cache.fingerprints import weights_digest
from kdcam.training import EVALUATION_BATCH
from kdcam.verification.measures import ACCURACY_STEP, squared_distances
from kdcam.verification.pictures import draw_roc
from kdcam.verification.report import VerificationReport, verification_scores
from kdcam.verification.settings import VerificationSettings, verification_settings
from kdcam.verification.unit_embeddings import unit_embeddings
from kdcam.wording import listed

PICTURE_FILE = "roc.png"
_WORKERS = 2  # processes that decode large pictures: kdcam's choice
_FEWEST_STEPS = 10  # of the grid below the middle distance, or its thresholds are coarse: kdcam's choice
_NAMED = 3  # people named in an error; the others are counted


class _Plan(NamedTuple):
    """What is done to every run, and how."""

    pairs: Pairs
    folds: Numbers
    settings: VerificationSettings
    weights: Weights
    batch_size: int
    progress: Progress


class _Opened(NamedTuple):
    path: Path
    classifier: Classifier
    seen: tuple[str, ...]


def verify(
    runs: str | Path | Sequence[str | Path],
    pairs: str | Path,
    root: str | Path,
    *,
    settings: Mapping[str, Any] | VerificationSettings | None = None,
    figures: str | Path | None = None,
    weights: Weights = "selected",
    batch_size: int = EVALUATION_BATCH,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[VerificationReport]:
    """Return how well runs tell one person from two in pairs of pictures; written to verification.json in run folders.

    The embedding of each distinct picture, with its mirror image's, is brought to length 1; a pair is taken for one
    person where the squared distance lies below a threshold, which is found on the other folds.

    Args:
        runs: Run folders; also timm folders and .safetensors files, beside which nothing is written.
        pairs: The file of pairs, see `kdcam.data.pairs.read_pairs`.
        root: The folder of the people's folders.
        settings: Keys as `kdcam.verification.settings.VerificationSettings` takes them.
        figures: A folder for roc.png, all runs in one picture; none: no picture.
        weights: Which epoch's weights of each run.
        batch_size: Pictures at a time.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        progress: Who watches.

    Raises:
        RecipeError: A setting is wrong.
        DataError: The pairs are wrong, a picture cannot be read, or a person of the pairs is one of a run's classes.
        ModelError: A network takes no pictures, or its embeddings are not finite.
        CheckpointError: A folder holds no run, or a file cannot be written.
        Interrupted: The watcher asked to stop; nothing is written.
    """
    checked = (
        settings if isinstance(settings, VerificationSettings) else verification_settings(settings or {})
    )
    named = read_pairs(pairs, root)
    plan = _Plan(named, folds_of(named, checked.folds), checked, weights, batch_size, progress or Silent())
    places = [runs] if isinstance(runs, str | Path) else runs
    opened = [_open(Path(place), plan, device) for place in places]  # all first: the last may be refused
    held = dict[tuple[int, int], ResidentImages | StreamImages]()
    found = [_verified(one, plan, held) for one in opened]
    for report in found:
        if (report.run / RECIPE_FILE).exists():
            write_json(report.run / VERIFICATION_FILE, report.to_json())
    if figures is not None:
        _draw(found, Path(figures) / PICTURE_FILE, plan)
    return found


def _draw(found: Sequence[VerificationReport], file: Path, plan: _Plan) -> None:
    curves = {str(report.run): report.scores.curve for report in found}
    make_folder(file.parent)
    write_atomically(file, draw_roc(curves, others=int((~plan.pairs.same).sum())))
    plan.progress.message(f"{file}: ROC curves of all pairs")


def _open(path: Path, plan: _Plan, device: str) -> _Opened:
    classifier = load(path, weights=plan.weights, device=device)
    if classifier.in_channels not in (1, 3):
        raise ModelError(
            f"{path}: its network takes {classifier.in_channels} channels; picture files are read as gray (1) or "
            "RGB (3)"
        )
    people = set(plan.pairs.people)
    seen = tuple(name for name in classifier.label_names if name in people)
    if seen:
        more = f" and {len(seen) - _NAMED} more" if len(seen) > _NAMED else ""
        text = (
            f"{path}: was trained on {listed(map(repr, seen[:_NAMED]))}{more}, of {len(people)} people in "
            f"{plan.pairs.file}"
        )
        if not plan.settings.allow_seen:
            raise DataError(
                f"{text}, so it has seen such pictures; take pairs of other people (kdcam make-pairs --not-in {path}), "
                "or allow this (--allow-seen)"
            )
        plan.progress.warning(f"{text}: its numbers are not those of new people")
    elif not classifier.label_names or plan.pairs.unnamed:
        of = "its classes" if not classifier.label_names else f"{plan.pairs.unnamed} pictures of the pairs"
        plan.progress.message(
            f"{path}: whether it was trained on people of the pairs is not known: {of} have no names"
        )
    return _Opened(path, classifier, seen)


def _verified(
    one: _Opened, plan: _Plan, held: dict[tuple[int, int], ResidentImages | StreamImages]
) -> VerificationReport:
    pairs, classifier = plan.pairs, one.classifier
    size = (classifier.image_size, classifier.in_channels)
    if size not in held:
        held[size] = _pictures(pairs, *size, plan.progress)
    embeddings = unit_embeddings(
        classifier,
        _batches(held[size], plan.batch_size, classifier.mean.device),
        flip=plan.settings.flip,
        place=one.path,
        progress=plan.progress,
    )
    distances = squared_distances(embeddings, pairs.first, pairs.second)
    if plan.settings.thresholds == "grid" and numpy.median(distances) < _FEWEST_STEPS * ACCURACY_STEP:
        plan.progress.warning(
            f"{one.path}: half of the squared distances lie below {float(numpy.median(distances)):.2g}, where "
            f"thresholds in steps of {ACCURACY_STEP:g} tell little apart; take --thresholds midpoints"
        )
    return VerificationReport(
        run=one.path,
        model=weights_digest(classifier.network),
        weights=plan.weights,
        settings=plan.settings,
        pairs=pairs.summary(plan.folds),
        seen=one.seen,
        blank=int((~embeddings.any(1)).sum()),
        scores=verification_scores(distances, pairs.same, plan.folds, plan.settings),
    )


def _pictures(
    pairs: Pairs, image_size: int, channels: int, progress: Progress
) -> ResidentImages | StreamImages:
    """Return the pictures, small ones read at once; ``DataError`` names those of them that cannot be read."""
    images = StreamImages(FilePictures(pairs.paths), image_size=image_size, channels=channels)
    if image_size > RESIDENT_LIMIT:
        return images
    read, reasons = read_resident(images, task="reading pictures of pairs", progress=progress)
    bad = [reason for reason in reasons if reason is not None]
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        raise DataError(
            f"{len(bad)} of {len(reasons)} pictures of {pairs.file} cannot be read: {'; '.join(bad[:_NAMED])}{more}. "
            "Replace them, or remove their pairs"
        )
    return read


def _batches(images: ResidentImages | StreamImages, batch_size: int, device: torch.device) -> Batches:
    targets = torch.zeros(len(images), dtype=torch.int64)  # of no use here
    if isinstance(images, ResidentImages):
        return ResidentBatches(
            images, targets, batch_size=batch_size, training=False, augment=(), seed=0, device=device
        )
    return StreamBatches(
        images,
        targets,
        batch_size=batch_size,
        training=False,
        augment=(),
        workers=_WORKERS,
        seed=0,
        device=device,
    )


__all__ = ["PICTURE_FILE", "verify"]
