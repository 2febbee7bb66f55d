"""What is left under a list of attacks where an image carries several labels, or none."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from kdcam.attacks.attack_settings import AnyAttack, check_attacks
from kdcam.attacks.objective import right_decisions
from kdcam.data.batches.batch import Batch, Batches
from kdcam.errors import DataError
from kdcam.evaluation.robustness.attack_stages import (
    PlannedAttack,
    RemainingTime,
    attacks_by_budget,
    planned_attacks,
    run_stage,
    stage_passes,
)
from kdcam.evaluation.robustness.evaluated_images import (
    first_batches,
    images_to_attack,
    logits_of,
    subset_text,
    warn_of_zero_gradients,
    zero_gradients,
)
from kdcam.evaluation.robustness.partial_results import (
    PENDING,
    STANDS,
    PartialResults,
    stop_with_results_kept,
)
from kdcam.evaluation.robustness.reference_runs import ReferenceNetwork
from kdcam.runtime.numerics import share_of
from kdcam.runtime.progress import Progress, Silent
from kdcam.scores.classification import multi_label_report

_CLEAN = "clean"


class MultiLabelScores(BaseModel, frozen=True):
    """Scores over all evaluated images; a decision is one class of one image, at probability 0.5."""

    label_acc: float  # share of right decisions
    mean_ap: float | None  # mean average precision of the classes with positives; None: none has
    exact_acc: float  # share of images with all decisions right


class MultiLabelAttackRow(BaseModel, frozen=True):
    """The scores after one attack; every image is attacked, since there is no "right" image."""

    attack: str  # its label: pgd-10, or "pgd-10 from RUN" when crafted on another run
    norm: str
    eps: float  # [0, 1] pixel units
    settings: dict[str, Any]
    scores: MultiLabelScores
    forwards: float  # image-forwards of the attack for each image
    backwards: float


class MultiLabelCurvePoint(BaseModel, frozen=True):
    """What is left under every attack of one budget and of the smaller ones of its norm."""

    eps: float
    worst_case_label_acc: float
    worst_case_exact_acc: float


class MultiLabelRobustnessReport(BaseModel, frozen=True):
    """Scores of a multi-label classifier on clean and on attacked images."""

    task: Literal["multi-label"] = "multi-label"
    images: int
    subset: str  # which images, in words
    loss: str  # what the attacks raise
    clean: MultiLabelScores
    rows: tuple[MultiLabelAttackRow, ...]
    worst_case_label_acc: float  # share of decisions right before and after every attack
    worst_case_exact_acc: float  # share of images with all decisions right before and after every attack
    curve: tuple[MultiLabelCurvePoint, ...]  # by budget, from small to large
    zero_gradients: int  # images whose gradient is zero everywhere: attacks cannot move them

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain lists and numbers."""
        return self.model_dump(mode="json")


def multi_label_attack_report(
    classifier: nn.Module,
    batches: Batches,
    attacks: Sequence[AnyAttack],
    *,
    n_examples: int,
    source: ReferenceNetwork | None = None,
    partial: PartialResults | None = None,
    progress: Progress | None = None,
) -> MultiLabelRobustnessReport:
    """Return the scores before and after each attack; modes and random state stay as they were.

    The attacks raise the binary cross-entropy summed over the classes, so they make labels vanish and appear.
    Arguments and errors as those of `kdcam.evaluation.robustness.attack_report.attack_report`, but the targets are rows
    (N, K) of 0 and 1, and an attack that needs one label an image is refused with ``RecipeError``.
    """
    progress, partial = progress or Silent(), partial or PartialResults()
    if not attacks:
        raise ValueError("no attacks; wanted at least one")
    check_attacks(attacks, num_classes=1, multi_label=True)  # each class is a decision of its own
    images = images_to_attack(batches, n_examples)
    targets, clean = _clean(classifier, batches, images, partial=partial, progress=progress)
    stop_with_results_kept(progress)
    planned = planned_attacks(classifier, attacks, source, targets.shape[1])
    clock = RemainingTime([stage for row in planned for stage in row.stages], images, progress)
    attacked = [
        _run_attack(row, classifier, batches, targets, partial=partial, clock=clock) for row in planned
    ]
    zeros = partial.counts(_CLEAN)["zero_gradients"]
    warn_of_zero_gradients(zeros, images, progress)
    right = torch.stack([right_decisions(logits, targets) for logits in (clean, *attacked)])
    always = right.all(0)
    return MultiLabelRobustnessReport(
        images=images,
        subset=subset_text(images, whole=images == batches.num_images),
        loss="binary cross-entropy, summed over the classes",
        clean=_scores(clean, targets),
        rows=tuple(
            _row(row, logits, targets, partial) for row, logits in zip(planned, attacked, strict=True)
        ),
        worst_case_label_acc=share_of(always),
        worst_case_exact_acc=share_of(always.all(1)),
        curve=_curve(planned, right),
        zero_gradients=zeros,
    )


def _clean(
    classifier: nn.Module, batches: Batches, images: int, *, partial: PartialResults, progress: Progress
) -> tuple[Tensor, Tensor]:
    """Return targets and clean logits (images, K) on the CPU; counts zero gradients."""
    marks, counts = partial.marks(_CLEAN, images), partial.counts(_CLEAN)
    if "zero_gradients" not in counts:
        marks.fill_(PENDING)
        counts["zero_gradients"] = 0
    targets = []
    for positions, batch in first_batches(batches, images):
        targets.append(batch.targets.cpu())
        pending = marks[positions] == PENDING  # all or none, but after a resume with another batch size
        if not bool(pending.any()):
            continue
        some = pending.to(batch.images.device)
        logits = logits_of(classifier, batch.images[some])
        _check_rows(batch.targets[some], logits)
        counts["zero_gradients"] += zero_gradients(classifier, batch.images[some], batch.targets[some])
        partial.rows(_CLEAN, (images, logits.shape[1]))[positions[pending]] = logits.float().cpu()
        marks[positions[pending]] = STANDS
        partial.save()
        progress.advance(_CLEAN, int(positions[-1]) + 1, images)
        stop_with_results_kept(progress)
    rows = torch.cat(targets)
    return rows, partial.rows(_CLEAN, tuple(rows.shape))


def _check_rows(targets: Tensor, logits: Tensor) -> None:
    if targets.shape != logits.shape:
        raise DataError(
            f"targets have shape {tuple(targets.shape)} where the classifier gives {tuple(logits.shape)}; "
            "this report needs a row of 0 and 1 an image, of the classes that it was trained for"
        )


def _run_attack(
    planned: PlannedAttack,
    classifier: nn.Module,
    batches: Batches,
    targets: Tensor,
    *,
    partial: PartialResults,
    clock: RemainingTime,
) -> Tensor:
    """Return the logits (images, K) after an attack."""
    (stage,) = planned.stages
    found = partial.rows(stage.key, tuple(targets.shape))

    def judge(positions: Tensor, batch: Batch, adversarial: Tensor) -> Tensor:
        found[positions] = logits_of(classifier, adversarial).float().cpu()
        return torch.ones(len(batch.indices), dtype=torch.bool)

    everything = torch.ones(len(targets), dtype=torch.bool)
    clock.begin(stage, len(targets), int((partial.marks(stage.key, len(targets)) == PENDING).sum()))
    run_stage(stage, batches, everything, judge=judge, partial=partial, clock=clock)
    return found


def _row(
    planned: PlannedAttack, logits: Tensor, targets: Tensor, partial: PartialResults
) -> MultiLabelAttackRow:
    passes = stage_passes(planned.stages[0], partial)
    return MultiLabelAttackRow(
        attack=planned.label,
        norm=planned.attack.norm,
        eps=planned.attack.eps,
        settings=planned.attack.model_dump(mode="json"),
        scores=_scores(logits, targets),
        forwards=passes.forwards / len(targets),
        backwards=passes.backwards / len(targets),
    )


def _curve(planned: Sequence[PlannedAttack], right: Tensor) -> tuple[MultiLabelCurvePoint, ...]:
    points = []
    for eps, numbers in attacks_by_budget(planned).items():
        always = right[[0, *(number + 1 for number in numbers)]].all(0)
        points.append(
            MultiLabelCurvePoint(
                eps=eps, worst_case_label_acc=share_of(always), worst_case_exact_acc=share_of(always.all(1))
            )
        )
    return tuple(points)


def _scores(logits: Tensor, targets: Tensor) -> MultiLabelScores:
    right = right_decisions(logits, targets)
    return MultiLabelScores(
        label_acc=share_of(right),
        mean_ap=multi_label_report(logits, targets).mean_ap,
        exact_acc=share_of(right.all(1)),
    )


__all__ = [
    "MultiLabelAttackRow",
    "MultiLabelCurvePoint",
    "MultiLabelRobustnessReport",
    "MultiLabelScores",
    "multi_label_attack_report",
]
