"""What came out of a comparison's rows, as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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


__all__ = ["ComparedRow", "EpochsToReach", "EvaluationScore", "FailedRun"]
