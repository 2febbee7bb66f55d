"""Accuracy under a list of attacks, with one label an image; several: `multi_label_attack_report`."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from kdcam.attacks.attack_settings import AnyAttack
from kdcam.data.batches.batch import Batch, Batches
from kdcam.errors import DataError
from kdcam.evaluation.robustness.attack_stages import (
    AttackStage,
    PassCounts,
    PlannedAttack,
    RemainingTime,
    attacks_by_budget,
    losses_text,
    planned_attacks,
    run_stage,
    stage_passes,
)
from kdcam.evaluation.robustness.evaluated_images import (
    images_to_attack,
    is_right,
    logits_of,
    rebatched,
    subset_text,
    warn_of_zero_gradients,
    zero_gradients,
)
from kdcam.evaluation.robustness.missed_by_gradients import AttackGain, black_box_gain, transfer_gain
from kdcam.evaluation.robustness.partial_results import (
    FELL,
    PENDING,
    STANDS,
    PartialResults,
    stop_with_results_kept,
)
from kdcam.evaluation.robustness.reference_runs import ReferenceNetwork
from kdcam.runtime.numerics import share_of
from kdcam.runtime.progress import Progress, Silent

_CLEAN = "clean"


class StageRow(BaseModel, frozen=True):
    """What is left after one stage of an attack; each stage attacks the images that the ones before left standing."""

    attack: str  # apgd-ce
    attacked: int  # images
    robust_acc: float  # share of all images right after this stage and those before
    forwards: float  # image-forwards for each image attacked
    backwards: float  # image-backwards for each image attacked


class AttackRow(BaseModel, frozen=True):
    """The result of one attack; `robust_acc` is over all evaluated images, also those wrong from the start."""

    attack: str  # its label: pgd-10, or "pgd-10 from RUN" when crafted on another run
    norm: str
    eps: float  # [0, 1] pixel units
    settings: dict[str, Any]
    images: int
    robust_acc: float  # share right before and after the attack
    success_rate: float | None  # share of the images right before that are wrong after; None: none was right
    forwards: float | None  # image-forwards of the attack for each image right before
    backwards: float | None
    stages: tuple[StageRow, ...] = ()


class CurvePoint(BaseModel, frozen=True):
    """What is left under every attack of one budget and of the smaller ones of its norm."""

    eps: float
    worst_case_acc: float


class RobustnessReport(BaseModel, frozen=True):
    """Accuracy of a classifier on clean and on attacked images."""

    images: int
    subset: str  # which images, in words
    loss: str  # what the attacks raise
    clean_acc: float
    rows: tuple[AttackRow, ...]
    worst_case_acc: float  # share right before and after every attack of the largest budget and those below
    curve: tuple[CurvePoint, ...]  # by budget, from small to large; eps 0 is the clean images
    zero_gradients: int  # images right before whose gradient is zero everywhere: attacks cannot move them
    # what stands every attack by gradients of a budget and falls to square there; None: not both were run at one budget
    black_box_gain: AttackGain | None
    # what only the source's images fool, and no attack on the network itself; None: there is no source
    transfer_gain: AttackGain | None

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain lists and numbers."""
        return self.model_dump(mode="json")


def attack_report(
    classifier: nn.Module,
    batches: Batches,
    attacks: Sequence[AnyAttack],
    *,
    n_examples: int,
    source: ReferenceNetwork | None = None,
    partial: PartialResults | None = None,
    progress: Progress | None = None,
) -> RobustnessReport:
    """Return the accuracy under each attack and under all of them; modes and random state stay as they were.

    Each attack runs on every image that is right at the start; one that is wrong then counts as wrong. Of an attack in
    stages (`standard`) each stage runs on what the one before left standing.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches in order, on the classifier's device.
        attacks: what to run, as `BudgetSettings.configs` gives; of several budgets, if wanted.
        n_examples: the first so many images are taken, or all where there are fewer.
        source: attacks are crafted on this classifier, too, and the images tried on the one evaluated.
        partial: what has been found so far, kept after each batch; by default in memory alone.
        progress: who watches.

    Raises ``DataError`` when there is no image or images carry several labels, ``ModelError`` when the
    logits are not finite or an attack cannot work on so few classes, ``Interrupted`` when asked to stop.
    """
    progress, partial = progress or Silent(), partial or PartialResults()
    if not attacks:
        raise ValueError("no attacks; wanted at least one")
    images = images_to_attack(batches, n_examples)
    clean = right_images(classifier, batches, images, partial=partial, progress=progress)
    stop_with_results_kept(progress)
    planned = planned_attacks(classifier, attacks, source, partial.counts(_CLEAN)["classes"])
    clock = RemainingTime([stage for row in planned for stage in row.stages], int(clean.sum()), progress)
    standing = [_run_attack(row, classifier, batches, clean, partial=partial, clock=clock) for row in planned]
    warn_of_zero_gradients(zeros := partial.counts(_CLEAN)["zero_gradients"], int(clean.sum()), progress)
    last = [after_stages[-1] for after_stages in standing]
    return RobustnessReport(
        images=images,
        subset=subset_text(images, whole=images == batches.num_images),
        loss=losses_text(planned),
        clean_acc=int(clean.sum()) / images,
        rows=tuple(
            _row(row, after_stages, clean, partial)
            for row, after_stages in zip(planned, standing, strict=True)
        ),
        worst_case_acc=share_of(torch.stack(last).all(0)),
        curve=_curve(planned, last),
        zero_gradients=zeros,
        black_box_gain=black_box_gain(planned, standing),
        transfer_gain=transfer_gain(planned, standing),
    )


def right_images(
    classifier: nn.Module, batches: Batches, images: int, *, partial: PartialResults, progress: Progress
) -> Tensor:
    """Return which of the first images (images,) bool a classifier is right on, on the CPU; counts zero gradients."""
    marks, counts = partial.marks(_CLEAN, images), partial.counts(_CLEAN)
    if not {"classes", "zero_gradients"} <= counts.keys():
        marks.fill_(PENDING)
        counts["zero_gradients"] = 0
    for positions, batch in rebatched(batches, marks == PENDING):
        _check_labels(batch)
        logits = logits_of(classifier, batch.images)
        right = logits.argmax(1) == batch.targets
        counts["classes"] = logits.shape[1]
        if bool(right.any()):
            counts["zero_gradients"] += zero_gradients(classifier, batch.images[right], batch.targets[right])
        marks[positions] = torch.where(right.cpu(), STANDS, FELL).to(torch.uint8)
        partial.save()
        progress.advance(_CLEAN, int((marks != PENDING).sum()), images)
        stop_with_results_kept(progress)
    return marks == STANDS


def _check_labels(batch: Batch) -> None:
    if batch.targets.ndim != 1:
        raise DataError(
            f"targets have shape {tuple(batch.targets.shape)}; this report needs one label an image"
        )


def _run_attack(
    planned: PlannedAttack,
    classifier: nn.Module,
    batches: Batches,
    clean: Tensor,
    *,
    partial: PartialResults,
    clock: RemainingTime,
) -> list[Tensor]:
    """Return what stands (images,) after each stage."""

    def judge(_: Tensor, batch: Batch, found: Tensor) -> Tensor:
        return is_right(classifier, found, batch.targets)

    standing: list[Tensor] = []
    stands = clean
    for stage in planned.stages:
        pending = stands & (partial.marks(stage.key, len(clean)) == PENDING)
        clock.begin(stage, int(stands.sum()), int(pending.sum()))
        stands = run_stage(stage, batches, stands, judge=judge, partial=partial, clock=clock)
        standing.append(stands)
    return standing


def _row(
    planned: PlannedAttack, standing: Sequence[Tensor], clean: Tensor, partial: PartialResults
) -> AttackRow:
    right, left = int(clean.sum()), int(standing[-1].sum())
    passes = [stage_passes(stage, partial) for stage in planned.stages]
    return AttackRow(
        attack=planned.label,
        norm=planned.attack.norm,
        eps=planned.attack.eps,
        settings=planned.attack.model_dump(mode="json"),
        images=len(clean),
        robust_acc=left / len(clean),
        success_rate=1 - left / right if right else None,
        forwards=sum(one.forwards for one in passes) / right if right else None,
        backwards=sum(one.backwards for one in passes) / right if right else None,
        stages=tuple(map(_stage_row, planned.stages, standing, passes)) if len(passes) > 1 else (),
    )


def _stage_row(stage: AttackStage, stands: Tensor, passes: PassCounts) -> StageRow:
    attacked = max(passes.attacked, 1)
    return StageRow(
        attack=stage.attack.label,
        attacked=passes.attacked,
        robust_acc=share_of(stands),
        forwards=passes.forwards / attacked,
        backwards=passes.backwards / attacked,
    )


def _curve(planned: Sequence[PlannedAttack], standing: Sequence[Tensor]) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            eps=eps, worst_case_acc=share_of(torch.stack([standing[number] for number in numbers]).all(0))
        )
        for eps, numbers in attacks_by_budget(planned).items()
    )


__all__ = [
    "AttackRow",
    "CurvePoint",
    "RobustnessReport",
    "StageRow",
    "attack_report",
    "right_images",
]
