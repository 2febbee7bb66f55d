"""Accuracy under corruptions, kdcam's own or a published set's, and errors as multiples of another run's."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from kdcam.corruptions.corruption_list import CORRUPTIONS, SEVERITIES, corruptions_for
from kdcam.corruptions.image_corruption import check_corruption_names, corrupt
from kdcam.data.batches.batch import Batches
from kdcam.errors import DataError
from kdcam.evaluation.robustness.corrupted_sets import CorruptedSet
from kdcam.evaluation.robustness.evaluated_images import first_batches, is_right, subset_text
from kdcam.evaluation.robustness.partial_results import stop_with_results_kept
from kdcam.runtime.progress import Progress, Silent
from kdcam.scores.classification import mean_of_known
from kdcam.settings.messages import listed

OWN_CORRUPTIONS = "kdcam's corruptions"
OWN_NOTE = "strengths are kdcam's choice: not comparable with published mean corruption errors"
PUBLISHED_NOTE = "plain mean error, not divided by another network's"
NO_CLEAN_NOTE = "no clean accuracy, since its images are not known to be those of the test part, in its order"
_TASK = "corruptions"


class CorruptionRow(BaseModel, frozen=True):
    """The result of one corruption."""

    name: str
    accuracies: tuple[float, ...]  # by severity, in the report's order
    mean_error: float  # 1 - accuracy, mean over the severities


class CorruptionReport(BaseModel, frozen=True):
    """Accuracy of a classifier on corrupted images, all of which count, also those wrong from the start."""

    source: str  # OWN_CORRUPTIONS, or the folder of a published set
    images: int  # of each corruption and severity
    subset: str  # which images, in words
    seed: int | None  # of what the corruptions draw; None: the images were read
    severities: tuple[int, ...]
    clean_acc: float | None  # on the same images; None: they are not known to be those of the test part
    rows: tuple[CorruptionRow, ...]
    mean_error: float  # over the corruptions
    note: str  # what the numbers do not compare with, and what is to be known of them

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain lists and numbers."""
        return self.model_dump(mode="json")


class _Facts(NamedTuple):
    """What a report says beside its rows."""

    source: str
    images: int
    subset: str
    seed: int | None
    severities: tuple[int, ...]
    clean_acc: float | None
    note: str


def corruption_report(
    classifier: nn.Module,
    batches: Batches,
    *,
    names: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    n_examples: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> CorruptionReport:
    """Return the accuracy under kdcam's corruptions; modes and random state stay as they were.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches in order, on the classifier's device.
        names: of `CORRUPTIONS`; None: all that change these pictures; those of colours change no gray ones, whatever
            their channels.
        severities: some of 1 to 5, without repeats.
        n_examples: the first so many images are taken, or all where there are fewer.
        seed: of what the corruptions draw, together with each image's index.
        progress: who watches.

    Raises ``DataError`` where there is no image, images carry several labels, or a corruption of colours meets gray
    pictures; ``RecipeError`` for an unknown name; ``ModelError`` when the logits are not finite.
    """
    watcher = progress or Silent()
    images = _images(batches, severities, n_examples)
    clean, coloured = 0, False
    chosen = None if names is None else _once(names)
    hits: dict[str, list[int]] = {}
    for positions, part in first_batches(batches, images):
        stop_with_results_kept(watcher)
        chosen = corruptions_for(part.images.shape[1]) if chosen is None else chosen
        check_corruption_names(chosen, channels=part.images.shape[1])
        coloured = coloured or bool((part.images != part.images[:, :1]).any())
        clean += _right(classifier, part.images, part.targets)
        for name in chosen:
            row = hits.setdefault(name, [0] * len(severities))
            for number, severity in enumerate(severities):
                worse = corrupt(name, part.images, severity=severity, indices=part.indices, seed=seed)
                row[number] += _right(classifier, worse, part.targets)
        watcher.advance(_TASK, int(positions[-1]) + 1, images)
    idle = [name for name in hits if CORRUPTIONS[name].needs_colour and not coloured]
    if names is None:
        hits = {name: row for name, row in hits.items() if name not in idle}
    subset = subset_text(images, whole=images == batches.num_images)
    note = _joined(OWN_NOTE, f"{listed(idle)} does nothing, the pictures are gray" if idle and names else "")
    facts = _Facts(OWN_CORRUPTIONS, images, subset, seed, tuple(severities), clean / images, note)
    return _report(facts, hits)


def corrupted_set_report(
    classifier: nn.Module,
    found: CorruptedSet,
    *,
    names: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    n_examples: int | None = None,
    batch_size: int = 100,
    device: torch.device | None = None,
    clean: Batches | None = None,
    progress: Progress | None = None,
) -> CorruptionReport:
    """Return the accuracy on a published corrupted test set; modes and random state stay as they were.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        found: what `open_corrupted_set` returned.
        names: corruptions of the set; None: all of them.
        severities: some of 1 to 5, without repeats.
        n_examples: the first so many images of each copy; None: all.
        batch_size: images computed at once; the result does not depend on it.
        device: the classifier's; None: the CPU.
        clean: the test part in order. The set has no clean copy of its own; the clean accuracy is that of the same
            images of this part, where the set's labels and their order are the part's.
        progress: who watches.

    Raises ``DataError`` for a corruption that the set does not have and for copies of different sizes, and where
    files are missing or broken.
    """
    watcher = progress or Silent()
    chosen = found.names if names is None else _once(names)
    if not chosen:
        raise DataError(f"{found.folder}: holds no NAME.npy beside labels.npy; fetch the corruptions too")
    sizes: dict[str, int] = {}
    hits: dict[str, list[int]] = {}
    for name in chosen:
        for severity in severities:
            stop_with_results_kept(watcher)
            copy = found.batches(name, severity, batch_size=batch_size, device=device or torch.device("cpu"))
            wanted = copy.num_images if n_examples is None else n_examples
            images = _images(copy, severities, wanted)
            sizes[f"{name}/{severity}"] = copy.num_images
            right = [_right(classifier, *part.batch[:2]) for part in first_batches(copy, images)]
            hits.setdefault(name, []).append(sum(right))
            watcher.advance(_TASK, len(sizes), len(chosen) * len(severities))
    there = _same_size(found, sizes)
    clean_acc = None if clean is None else _clean_accuracy(classifier, clean, found, images)
    note = _joined(PUBLISHED_NOTE, found.note, NO_CLEAN_NOTE if clean_acc is None else "")
    subset = subset_text(images, whole=images == there)
    return _report(_Facts(str(found.folder), images, subset, None, tuple(severities), clean_acc, note), hits)


def _images(batches: Batches, severities: Sequence[int], n_examples: int) -> int:
    if not severities or len(set(severities)) < len(severities) or not set(severities) <= set(SEVERITIES):
        raise ValueError(f"severities are {list(severities)}; wanted some of 1 to 5, each once")
    if batches.num_images == 0:
        raise DataError("corruptions: the part has no image; choose another part")
    if n_examples < 1:
        raise ValueError(f"n_examples is {n_examples}; wanted at least 1")
    return min(n_examples, batches.num_images)


def _once(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        raise ValueError("no corruption is named; wanted at least one, or None for all")
    return tuple(dict.fromkeys(names))


def _right(classifier: nn.Module, images: Tensor, targets: Tensor) -> int:
    if targets.ndim != 1:
        raise DataError(
            f"corruptions: targets have shape {tuple(targets.shape)}; this report needs one label an image"
        )
    return int(is_right(classifier, images, targets).sum())


def _clean_accuracy(classifier: nn.Module, clean: Batches, found: CorruptedSet, images: int) -> float | None:
    """Return the accuracy on the first images of the test part; None where the set's are not known to be the same."""
    labels = found.ordered_labels
    if labels is None or len(labels) != clean.num_images:
        return None
    right = 0
    for positions, part in first_batches(clean, images):
        if not torch.equal(part.targets.cpu(), labels[positions]):
            return None
        right += _right(classifier, part.images, part.targets)
    return right / images


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _report(facts: _Facts, hits: dict[str, list[int]]) -> CorruptionReport:
    tried = facts.images * len(facts.severities)
    rows = tuple(
        CorruptionRow(
            name=name,
            accuracies=tuple(count / facts.images for count in counts),
            mean_error=1 - sum(counts) / tried,
        )
        for name, counts in hits.items()
    )
    mean_error = sum(row.mean_error for row in rows) / len(rows)
    return CorruptionReport(**facts._asdict(), rows=rows, mean_error=mean_error)


def _same_size(found: CorruptedSet, sizes: dict[str, int]) -> int:
    first, images = next(iter(sizes.items()))
    for copy, count in sizes.items():
        if count != images:
            raise DataError(
                f"{found.folder}: {copy} has {count} images, {first} has {images}; the copies of one test set "
                "have as many each, so fetch it again"
            )
    return images


class RelativeRow(BaseModel, frozen=True):
    """A corruption's errors as multiples of the base run's; 1: as the base."""

    name: str
    error: float | None  # sum of errors over severities / the base's; None: the base makes none
    # sum of (error - clean error) / the base's; None: unknown, or the base loses nothing
    added_error: float | None


class RelativeErrors(BaseModel, frozen=True):
    """Errors under corruptions as multiples of a base run's."""

    rows: tuple[RelativeRow, ...]
    mean_error: float | None  # mean over the corruptions that have the number; None: none has
    mean_added_error: float | None


def relative_errors(report: CorruptionReport, base: CorruptionReport) -> RelativeErrors:
    """Return errors as multiples of a base run's on the same corrupted images.

    For each corruption the sum of errors over severities, divided by the base's, and the same of what each adds to
    its own clean error; then the means over corruptions. Source: Hendrycks and Dietterich 2019, arXiv 1903.12261,
    section 4 (CE and relative CE, there with AlexNet as the base).

    Raises ``DataError`` where the two are not of the same images, corruptions and severities.
    """
    for key in ("source", "images", "subset", "seed", "severities"):
        mine, other = getattr(report, key), getattr(base, key)
        if mine != other:
            raise DataError(
                f"corruptions: {key} is {mine!r} here and {other!r} in the base run; evaluate both alike"
            )
    names, others = ([row.name for row in one.rows] for one in (report, base))
    if names != others:
        raise DataError(
            f"corruptions: {listed(names)} here and {listed(others)} in the base run; evaluate both alike"
        )
    rows = tuple(
        RelativeRow(
            name=row.name,
            error=_ratio(row.mean_error, other.mean_error),
            added_error=_ratio(_added(row, report), _added(other, base)),
        )
        for row, other in zip(report.rows, base.rows, strict=True)
    )
    return RelativeErrors(
        rows=rows,
        mean_error=mean_of_known([row.error for row in rows]),
        mean_added_error=mean_of_known([row.added_error for row in rows]),
    )


def _added(row: CorruptionRow, report: CorruptionReport) -> float | None:
    return None if report.clean_acc is None else row.mean_error - (1 - report.clean_acc)


def _ratio(error: float | None, base: float | None) -> float | None:
    return None if error is None or base is None or base <= 0 else error / base


__all__ = [
    "NO_CLEAN_NOTE",
    "OWN_CORRUPTIONS",
    "OWN_NOTE",
    "PUBLISHED_NOTE",
    "CorruptionReport",
    "CorruptionRow",
    "RelativeErrors",
    "RelativeRow",
    "corrupted_set_report",
    "corruption_report",
    "relative_errors",
]
