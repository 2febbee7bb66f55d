"""A whole comparison as plain values: its rows, its failed runs; read again without torch."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from kdcam.files.json_files import json_form
from kdcam.scores.intervals import PairedDifference, Summary


@dataclass(frozen=True)
class EpochsToReach:
    """How many epochs the runs of a row took to a level of the validation score."""

    median: float | None  # over all runs, where never counts as infinite; None: it is
    reached: int  # runs that got there
    runs: int


@dataclass(frozen=True)
class EvaluationScore:
    """One number of a later evaluation over a row's seeds: few-shot, verification, localization."""

    summary: Summary
    difference: PairedDifference | None  # to the base, by seed
    # What the interval of the difference is over; episodes where one seed alone is common to both rows.
    over: Literal["seeds", "episodes"] = "seeds"


@dataclass(frozen=True)
class ComparedRow:
    """One row over its seeds. Scores are shares in [0, 1]; summaries are over the finished seeds; None: unknown."""

    name: str  # in the table
    folder: str  # what the folders of its runs are called, before -SEED
    source: str  # the recipe as it was named
    method: str | None  # None: the losses are the recipe's own, or those that were named
    settings: tuple[str, ...]  # "key=value" of the grid
    teachers: tuple[str, ...]  # checkpoints that it was trained under
    agreement_teacher: str | None  # the checkpoint that the agreement is with
    seeds: tuple[int, ...]  # finished ones
    selection: Literal["best", "last"]
    test_selected: Summary | None
    test_last: Summary | None
    validation_selected: Summary | None
    validation_last: Summary | None
    same_data: bool  # as the base; of other data there is no difference to it
    difference: PairedDifference | None  # to the base, by seed; None for the base itself
    best_epoch: Summary | None  # counted from 1
    agreement: Summary | None  # share of test images of one top class with the teacher
    kl: Summary | None  # KL(teacher || student) in nats
    cam_similarity: Summary | None  # correlation of both CAMs of the label, in [-1, 1]
    caam_cam_similarity: Summary | None  # that of the student's CAAM and the teacher's CAM of the label
    epochs_to_base: EpochsToReach | None  # to the base's last validation score
    images_per_second: Summary | None
    seconds: Summary | None  # of training
    parameters: int | None
    published: Mapping[str, Any] | None  # accuracy in per cent, source
    curves: Mapping[int, tuple[float | None, ...]]  # seed -> validation score by epoch
    # Files of an earlier kdcam lack what follows.
    losses: tuple[str, ...] = ()  # the names of all that it was trained with
    evaluations: Mapping[str, EvaluationScore] = field(default_factory=dict)  # by "kind/name"
    start: str | None = None  # what a fine-tuning starts from and what of it is frozen, in words
    solved: bool = False  # linear probes: the classifier was solved, so that there are no epochs
    test_by_seed: Mapping[int, float] = field(default_factory=dict)  # what test_selected is the mean of


@dataclass(frozen=True)
class FailedRun:
    """A run that did not come to its end."""

    name: str  # of its folder
    row: str
    seed: int
    reason: str


def count_epochs(curves: Sequence[Sequence[float | None]], level: float) -> EpochsToReach | None:
    """Return how many epochs curves of validation scores take to a level; None where there is no curve."""
    known = [curve for curve in curves if curve]
    if not known:
        return None
    counts = [epochs_to_reach(curve, level) for curve in known]
    return EpochsToReach(median_epochs(counts), sum(count is not None for count in counts), len(counts))


def epochs_to_reach(curve: Sequence[float | None], level: float) -> int | None:
    """Return the first epoch, counted from 1, whose score is at least ``level``; None where none is."""
    return next(
        (epoch for epoch, score in enumerate(curve, start=1) if score is not None and score >= level), None
    )


def median_epochs(counts: Sequence[int | None]) -> float | None:
    """Return the median of counts, of which None is more than any number; None where the median is."""
    middle = statistics.median(math.inf if count is None else count for count in counts)
    return float(middle) if math.isfinite(middle) else None


@dataclass(frozen=True)
class ComparisonResult:
    """What was compared and what came out, as plain values; `Comparison` adds its text forms."""

    score: str  # "acc1" (top-1 accuracy) or "mean_ap" (mean average precision), in [0, 1]
    part: str  # whose selected score the differences are of: "test", or "validation" where no run has a test part
    base: str  # the first row's name
    seeds: tuple[int, ...]  # wanted of each row
    sets: tuple[str, ...]  # "key=value" that all rows share
    level: float | None  # the base's mean last validation score, to which epochs are counted
    rows: tuple[ComparedRow, ...]
    failed: tuple[FailedRun, ...]
    missing: tuple[str, ...]  # names of runs that neither finished nor failed
    machines: tuple[Mapping[str, Any], ...]  # different ones on which the runs were made
    versions: Mapping[str, tuple[str | None, ...]]  # package -> its different versions
    command: tuple[str, ...]
    # Files of an earlier kdcam lack what follows.
    left_out: tuple[str, ...] = ()  # later evaluations of runs that are not in the table, and why

    def to_json(self) -> dict[str, Any]:
        """Return everything in a form that JSON takes; scores in [0, 1], published numbers in per cent."""
        document: dict[str, Any] = json_form(asdict(self))
        return document


__all__ = [
    "ComparedRow",
    "ComparisonResult",
    "EpochsToReach",
    "EvaluationScore",
    "FailedRun",
    "count_epochs",
    "epochs_to_reach",
    "median_epochs",
]
