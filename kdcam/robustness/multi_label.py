"""What is left under a list of attacks where an image carries several labels, or none."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from kdcam.data.batches import Batch, Batches
from kdcam.errors import DataError
from kdcam.progress import Progress, Silent
from kdcam.robustness.config import AttackConfig
from kdcam.robustness.objective import right_decisions
from kdcam.robustness.subset import (
    first_batches,
    images_to_attack,
    logits_of,
    subset_text,
    warn_of_zero_gradients,
    zero_gradients,
)
from kdcam.scores import multi_label_report


class MultiLabelScores(BaseModel):
    """Scores over all evaluated images; a decision is one class of one image, at probability 0.5."""

    model_config = ConfigDict(frozen=True)

    label_acc: float  # share of right decisions
    mean_ap: float | None  # mean average precision of the classes with positives; None: none has
    exact_acc: float  # share of images with all decisions right


class MultiLabelAttackRow(BaseModel):
    """The scores after one attack; every image is attacked, since there is no "right" image."""

    model_config = ConfigDict(frozen=True)

    attack: str  # its label: pgd-10
    settings: AttackConfig
    scores: MultiLabelScores


class MultiLabelRobustnessReport(BaseModel):
    """Scores of a multi-label classifier on clean and on attacked images."""

    model_config = ConfigDict(frozen=True)

    task: Literal["multi-label"] = "multi-label"
    images: int
    subset: str  # which images, in words
    loss: str  # what the attacks raise
    clean: MultiLabelScores
    rows: tuple[MultiLabelAttackRow, ...]
    worst_case_label_acc: float  # share of decisions right before and after every attack
    worst_case_exact_acc: float  # share of images with all decisions right before and after every attack
    zero_gradients: int  # images whose gradient is zero everywhere: attacks cannot move them

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain lists and numbers."""
        return self.model_dump(mode="json")


class _Outcome(NamedTuple):
    """What became of a batch."""

    targets: Tensor  # (N, K) float
    clean: Tensor  # (N, K) logits before
    attacked: tuple[Tensor, ...]  # (N, K) logits after each attack
    zero_gradients: int


def multi_label_attack_report(
    classifier: nn.Module,
    batches: Batches,
    attacks: Sequence[AttackConfig],
    *,
    n_examples: int,
    progress: Progress | None = None,
) -> MultiLabelRobustnessReport:
    """Return the scores before and after each attack; modes and random state stay as they were.

    The attacks raise the binary cross-entropy summed over the classes, so they make labels vanish and appear.
    Arguments and errors as those of `kdcam.robustness.evaluate.attack_report`, but the targets are rows
    (N, K) of 0 and 1.
    """
    progress = progress or Silent()
    images = images_to_attack(batches, attacks, n_examples)
    outcomes = [
        _attack_batch(classifier, batch, attacks) for batch in first_batches(batches, images, progress)
    ]
    report = _report(outcomes, attacks, whole=images == batches.num_images)
    warn_of_zero_gradients(report.zero_gradients, images, progress)
    return report


def _attack_batch(classifier: nn.Module, batch: Batch, attacks: Sequence[AttackConfig]) -> _Outcome:
    images, targets, indices, _ = batch
    clean = logits_of(classifier, images)
    if targets.shape != clean.shape:
        raise DataError(
            f"targets have shape {tuple(targets.shape)} where the classifier gives {tuple(clean.shape)}; "
            "this report needs a row of 0 and 1 an image, of the classes that it was trained for"
        )
    attacked = [
        logits_of(classifier, attack.perturb(classifier, images, targets, indices)).cpu()
        for attack in attacks
    ]
    return _Outcome(targets.cpu(), clean.cpu(), tuple(attacked), zero_gradients(classifier, images, targets))


def _report(
    outcomes: Sequence[_Outcome], attacks: Sequence[AttackConfig], *, whole: bool
) -> MultiLabelRobustnessReport:
    targets = torch.cat([outcome.targets for outcome in outcomes])
    clean = torch.cat([outcome.clean for outcome in outcomes])
    attacked = [torch.cat(parts) for parts in zip(*(outcome.attacked for outcome in outcomes), strict=True)]
    kept = torch.stack([right_decisions(logits, targets) for logits in (clean, *attacked)]).all(0)
    return MultiLabelRobustnessReport(
        images=len(targets),
        subset=subset_text(len(targets), whole=whole),
        loss="binary cross-entropy, summed over the classes",
        clean=_scores(clean, targets),
        rows=tuple(
            MultiLabelAttackRow(attack=attack.label, settings=attack, scores=_scores(logits, targets))
            for attack, logits in zip(attacks, attacked, strict=True)
        ),
        worst_case_label_acc=_share(kept),
        worst_case_exact_acc=_share(kept.all(1)),
        zero_gradients=sum(outcome.zero_gradients for outcome in outcomes),
    )


def _scores(logits: Tensor, targets: Tensor) -> MultiLabelScores:
    right = right_decisions(logits, targets)
    return MultiLabelScores(
        label_acc=_share(right),
        mean_ap=multi_label_report(logits, targets).mean_ap,
        exact_acc=_share(right.all(1)),
    )


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


__all__ = [
    "MultiLabelAttackRow",
    "MultiLabelRobustnessReport",
    "MultiLabelScores",
    "multi_label_attack_report",
]
