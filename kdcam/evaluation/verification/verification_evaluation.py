"""verify: whether runs tell one person from two in pairs of pictures, all on the same pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import torch
from numpy.typing import NDArray

from kdcam.blocks.plots import PLOT_COLOURS, PLOT_DASHES, label_axes, png_bytes
from kdcam.data.batches.batch import EVALUATION_BATCH, Batches
from kdcam.data.batches.decoding import bad_image_reason, map_in_threads
from kdcam.data.batches.resident import ResidentBatches, ResidentImages
from kdcam.data.batches.streaming import FilePictures, StreamBatches, StreamImages
from kdcam.data.common_config import RESIDENT_LIMIT
from kdcam.data.identity_folder import similar_names
from kdcam.data.sources.picture_files import read_resident
from kdcam.data.verification_pairs import Numbers, Pairs, folds_of, read_pairs
from kdcam.errors import DataError, Interrupted, ModelError
from kdcam.evaluation.verification.verification_metrics import ACCURACY_STEP, RocCurve, squared_distances
from kdcam.evaluation.verification.verification_schema import (
    VerificationReport,
    VerificationSettings,
    verification_scores,
    verification_settings,
)
from kdcam.files.atomic_writes import write_atomically
from kdcam.files.digests import weights_digest
from kdcam.files.json_files import write_json
from kdcam.files.paths import exists, expanded
from kdcam.models.classifier import Classifier
from kdcam.runs.open_run import Weights, load
from kdcam.runs.provenance import Provenance, provenance_of
from kdcam.runs.run_data import warn_of_trained
from kdcam.runs.run_files import (
    RECIPE_FILE,
    VERIFICATION_FILE,
    check_writable_file,
    figure_file,
    remove_figure,
)
from kdcam.runtime.progress import Progress, Silent
from kdcam.scores.embeddings import feature_table
from kdcam.settings.messages import first_few

ROC_PICTURE = "roc.png"
_READING_TASK = "reading pictures of pairs"
_WORKERS = 2  # processes that decode large pictures: kdcam's choice
_FEWEST_STEPS = 10  # of the grid below the middle distance, or its thresholds are coarse: kdcam's choice

PairImages = ResidentImages | StreamImages


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
        pairs: The file of pairs, see `kdcam.data.verification_pairs.read_pairs`.
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
    run_paths = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    opened = [_open(path, plan) for path in run_paths]  # all first: the last may be refused
    picture = None if figures is None else expanded(figures) / ROC_PICTURE
    own = [figure_file(path, ROC_PICTURE) for path in run_paths if draw and _file_of(path)]
    for file in filter(None, (picture, *map(_file_of, run_paths), *own)):
        check_writable_file(file)
    summary = named.summary(plan.folds)
    held = dict[tuple[int, int], PairImages]()
    found = [_verify_run(one, plan, summary, held) for one in opened]
    for report in found:
        _write(report, plan, draw=draw)
    if picture is not None:
        _draw(found, picture, plan)
    return found


def _open(path: Path, plan: _Plan) -> _Opened:
    """Check a run; its network is dropped again, so that one at a time is held."""
    channels = load(path, weights=plan.weights, device=plan.device).in_channels
    if channels not in (1, 3):
        raise ModelError(
            f"{path}: its network takes {channels} channels; picture files are read as gray (1) or RGB (3)"
        )
    seen = seen_people(path, plan.pairs, allowed=plan.settings.allow_seen, progress=plan.progress)
    return _Opened(path, seen)


def seen_people(path: Path, pairs: Pairs, *, allowed: bool, progress: Progress) -> tuple[str, ...]:
    """Return the people of the pairs that a network was trained on, or what it was started from or taught by.

    What cannot be told is said to the watcher. Raises ``DataError`` where there are such people and ``allowed`` is not
    set.
    """
    provenance = provenance_of(path)
    saw = provenance.that_saw(pairs.people)
    if saw is not None:
        text = f"{provenance.sentence(saw)}, of {len(pairs.people)} people in {pairs.file}"
        if not allowed:
            raise DataError(
                f"{text}, so it has seen such pictures; take pairs of other people (kdcam make-pairs --not-in {path}), "
                "or allow this (--allow-seen)"
            )
        progress.warning(f"{text}: its numbers are not those of new people")
    known = _known_people(provenance)
    _tell_doubts(path, pairs, provenance, known, progress)
    return tuple(name for name in pairs.people if name in known)


def _known_people(provenance: Provenance) -> frozenset[str]:
    return frozenset(name for one in (provenance.itself, *provenance.others) for name in one.label_names)


def _tell_doubts(
    path: Path, pairs: Pairs, provenance: Provenance, known: frozenset[str], progress: Progress
) -> None:
    similar = similar_names([name for name in pairs.people if name not in known], known)
    if similar:
        named = first_few(f"{name!r} (its class {other!r})" for name, other in similar.items())
        progress.warning(
            f"{path}: {len(similar)} people of {pairs.file} are called nearly as its classes are: {named}; if they are "
            "the same, its numbers are not those of new people"
        )
    nameless = not provenance.itself.label_names
    if nameless or pairs.unnamed:
        of = "its classes" if nameless else f"{pairs.unnamed} pictures of the pairs"
        progress.message(
            f"{path}: whether it was trained on people of the pairs is not known: {of} have no names"
        )
    doubt = None if nameless else provenance.doubt()
    if doubt is not None:
        progress.warning(doubt)


def _file_of(run: Path) -> Path | None:
    """Return where a run keeps its numbers; None: it is no run."""
    return run / VERIFICATION_FILE if exists(run / RECIPE_FILE) else None


def _verify_run(
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


def pair_images(pairs: Pairs, *, image_size: int, channels: int, progress: Progress) -> PairImages:
    """Return the distinct pictures of pairs, small ones read at once; all of them are decoded here.

    Raises ``DataError`` that names those that cannot be read.
    """
    paths = pairs.paths
    images = StreamImages(FilePictures(paths), image_size=image_size, channels=channels)
    held: PairImages = images
    if image_size > RESIDENT_LIMIT:
        reasons = map_in_threads(
            lambda i: bad_image_reason(paths[i]), len(paths), task=_READING_TASK, progress=progress
        )
    else:
        held, reasons = read_resident(images, task=_READING_TASK, progress=progress)
    bad = [reason for reason in reasons if reason is not None]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(reasons)} pictures of {pairs.file} cannot be read: {first_few(bad, between='; ')}. "
            "Replace them, or remove their pairs"
        )
    return held


def pair_batches(images: PairImages, *, batch_size: int, device: torch.device) -> Batches:
    """Return the pictures in batches, in order."""
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


def unit_embeddings(
    classifier: Classifier, batches: Batches, *, flip: bool, place: Path, progress: Progress
) -> NDArray[numpy.float64]:
    """Return the embeddings (D, E) of all batches, each of length 1; one of nothing but zeros stays so.

    Eval mode, without gradient, in float32; divided by the length in float64.

    Args:
        classifier: Whose embeddings: what its last linear layer reads.
        batches: Evaluation batches on its device.
        flip: Add the embedding of the mirrored picture before dividing by the length.
        place: Names the run in messages.
        progress: Who watches.

    Raises ``DataError`` where a picture cannot be read, ``ModelError`` where an embedding is not finite,
    ``Interrupted`` where the watcher asks to stop.
    """
    try:
        table = feature_table(classifier, batches, flip=flip, task=f"{place}: embeddings", progress=progress)
    except Interrupted as stop:
        raise Interrupted(
            "the verification was stopped; nothing was written, the same command starts it over"
        ) from stop
    embeddings = table.embeddings.double().numpy()
    lengths = numpy.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: NDArray[numpy.float64] = embeddings / numpy.where(lengths > 0, lengths, 1)
    return unit


def _write(report: VerificationReport, plan: _Plan, *, draw: bool) -> None:
    """Write what was found into the run's folder."""
    file, picture = _file_of(report.run), figure_file(report.run, ROC_PICTURE)
    if file is None:
        return
    write_json(file, report.to_json())
    if draw:
        _draw([report], picture, plan)
    else:
        remove_figure(picture)


def _draw(found: Sequence[VerificationReport], file: Path, plan: _Plan) -> None:
    curves = {str(report.run): report.scores.curve for report in found}
    write_atomically(file, draw_roc(curves, others=int((~plan.pairs.same).sum())))
    plan.progress.message(f"{file}: ROC curves of all pairs")


def draw_roc(curves: Mapping[str, RocCurve], *, others: int) -> bytes:
    """Return a PNG of ROC curves, with the false accept rate on a logarithmic axis.

    Args:
        curves: By name, at least one.
        others: Pairs of two people: the axis begins at one of them.
    """
    from matplotlib.figure import Figure  # slow to import: only those who draw wait

    figure = Figure(figsize=(6, 4.5 + 0.18 * len(curves)), dpi=120, layout="constrained")
    axes = figure.subplots()
    for index, (name, curve) in enumerate(curves.items()):
        # Accepting nobody is no point of a logarithmic axis: its level is drawn from the left edge on.
        axes.plot(
            100 * numpy.maximum(curve.far, 0.5 / others),
            100 * curve.tar,
            label=_legend_label(name),
            color=PLOT_COLOURS[index % len(PLOT_COLOURS)],
            linestyle=PLOT_DASHES[index // len(PLOT_COLOURS) % len(PLOT_DASHES)],
            drawstyle="steps-post",
        )
    axes.set_xscale("log")
    axes.set_xlim(100 / others, 100)
    axes.set_ylim(0, 101)
    label_axes(axes, "pairs of two people accepted (%)", "pairs of one person accepted (%)")
    # Below: beside them long names of runs would leave the axes no width.
    figure.legend(loc="outside lower left", fontsize="small", frameon=False)
    return png_bytes(figure)


def _legend_label(name: str) -> str:
    """Return a name as it is to be shown: no formula between its dollars, and not left out for a first underline."""
    shown = name.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


__all__ = [
    "ROC_PICTURE",
    "PairImages",
    "draw_roc",
    "pair_batches",
    "pair_images",
    "seen_people",
    "unit_embeddings",
    "verify",
]
