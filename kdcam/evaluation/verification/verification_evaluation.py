"""verify: whether runs tell one person from two in pairs of pictures, all on the same pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from kdcam.api import Weights, load
from kdcam.data.pairs import Numbers, Pairs, folds_of, read_pairs
from kdcam.errors import ModelError
from kdcam.evaluation.verification.pair_pictures import PairImages, pair_batches, pair_images
from kdcam.evaluation.verification.pictures import draw_roc
from kdcam.evaluation.verification.report import VerificationReport, verification_scores
from kdcam.evaluation.verification.seen_people import seen_people
from kdcam.evaluation.verification.unit_embeddings import unit_embeddings
from kdcam.evaluation.verification.verification_metrics import ACCURACY_STEP, squared_distances
from kdcam.evaluation.verification.verification_schema import VerificationSettings, verification_settings
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.digests import weights_digest
from kdcam.files.json_files_part import write_json
from kdcam.files.paths import exists, expanded
from kdcam.runs.run_data import warn_of_trained
from kdcam.runs.run_files import RECIPE_FILE, VERIFICATION_FILE
from kdcam.runs.run_pictures import check_writable_file, figure_file, remove_figure
from kdcam.runtime.progress import Progress, Silent
from kdcam.training.assembly import EVALUATION_BATCH

ROC_PICTURE = "roc.png"
_FEWEST_STEPS = 10  # of the grid below the middle distance, or its thresholds are coarse: kdcam's choice


class _Plan(NamedTuple):
    """What is done to every run, and how."""

    pairs: Pairs
    folds: Numbers
    settings: VerificationSettings
    weights: Weights
    batch_size: int
    device: str
    progress: Progress


class _Opened(NamedTuple):
    path: Path
    seen: tuple[str, ...]


def verify(
    runs: str | Path | Sequence[str | Path],
    pairs: str | Path,
    root: str | Path,
    *,
    settings: Mapping[str, Any] | VerificationSettings | None = None,
    draw: bool = True,
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
        runs: Run folders; also files, timm folders and names of networks with published weights, as `kdcam.load` takes
            them; nothing is written beside these.
        pairs: The file of pairs, see `kdcam.data.pairs.read_pairs`.
        root: The folder of the people's folders.
        settings: Keys as `kdcam.evaluation.verification.verification_schema.VerificationSettings` takes them.
        draw: Whether figures/roc.png is drawn in each run folder; else one of earlier numbers is removed.
        figures: A folder for roc.png, all runs in one picture; none: no such picture.
        weights: Which epoch's weights of each run.
        batch_size: Pictures at a time.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        progress: Who watches.

    Raises:
        RecipeError: A setting is wrong.
        DataError: The pairs are wrong, a picture cannot be read, or a person of the pairs is one of the classes of a
            run, or of what it was started from or taught by.
        ModelError: A network takes no pictures, or its embeddings are not finite.
        CheckpointError: A folder holds no run, or a file cannot be written.
        Interrupted: The watcher asked to stop; nothing is written.
    """
    checked = (
        settings if isinstance(settings, VerificationSettings) else verification_settings(settings or {})
    )
    named, watcher = read_pairs(pairs, root), progress or Silent()
    for note in named.notes:
        watcher.message(note)
    plan = _Plan(named, folds_of(named, checked.folds), checked, weights, batch_size, device, watcher)
    places = [Path(place) for place in ([runs] if isinstance(runs, str | Path) else runs)]
    opened = [_open(place, plan) for place in places]  # all first: the last may be refused
    picture = None if figures is None else expanded(figures) / ROC_PICTURE
    own = [figure_file(place, ROC_PICTURE) for place in places if draw and _file_of(place)]
    for file in filter(None, (picture, *map(_file_of, places), *own)):
        check_writable_file(file)
    summary = named.summary(plan.folds)
    held = dict[tuple[int, int], PairImages]()
    found = [_verified(one, plan, summary, held) for one in opened]
    for report in found:
        _keep(report, plan, draw=draw)
    if picture is not None:
        _draw(found, picture, plan)
    return found


def _keep(report: VerificationReport, plan: _Plan, *, draw: bool) -> None:
    """Write what was found into the run's folder."""
    kept, picture = _file_of(report.run), figure_file(report.run, ROC_PICTURE)
    if kept is None:
        return
    write_json(kept, report.to_json())
    if draw:
        _draw([report], picture, plan)
    else:
        remove_figure(picture)


def _draw(found: Sequence[VerificationReport], file: Path, plan: _Plan) -> None:
    curves = {str(report.run): report.scores.curve for report in found}
    write_atomically(file, draw_roc(curves, others=int((~plan.pairs.same).sum())))
    plan.progress.message(f"{file}: ROC curves of all pairs")


def _open(path: Path, plan: _Plan) -> _Opened:
    """Check a run; its network is dropped again, so that one at a time is held."""
    channels = load(path, weights=plan.weights, device=plan.device).in_channels
    if channels not in (1, 3):
        raise ModelError(
            f"{path}: its network takes {channels} channels; picture files are read as gray (1) or RGB (3)"
        )
    seen = seen_people(path, plan.pairs, allowed=plan.settings.allow_seen, progress=plan.progress)
    return _Opened(path, seen)


def _file_of(run: Path) -> Path | None:
    """Return where a run keeps its numbers; None: it is no run."""
    return run / VERIFICATION_FILE if exists(run / RECIPE_FILE) else None


def _verified(
    one: _Opened, plan: _Plan, summary: Mapping[str, Any], held: dict[tuple[int, int], PairImages]
) -> VerificationReport:
    pairs, classifier = plan.pairs, load(one.path, weights=plan.weights, device=plan.device)
    size = (classifier.image_size, classifier.in_channels)
    if size not in held:
        held[size] = pair_images(pairs, image_size=size[0], channels=size[1], progress=plan.progress)
    warn_of_trained(one.path, pairs.paths, str(pairs.file), plan.progress)
    embeddings = unit_embeddings(
        classifier,
        pair_batches(held[size], batch_size=plan.batch_size, device=classifier.mean.device),
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
        pairs=summary,
        seen=one.seen,
        blank=int((~embeddings.any(1)).sum()),
        scores=verification_scores(distances, pairs.same, plan.folds, plan.settings),
    )


__all__ = ["ROC_PICTURE", "verify"]
