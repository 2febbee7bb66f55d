"""Accuracy under a list of attacks, with one label an image; several: `kdcam.robustness.multi_label`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from kdcam.data.batches import Batch, Batches
from kdcam.errors import DataError
from kdcam.progress import Progress, Silent
from kdcam.robustness.config import AttackConfig
from kdcam.robustness.subset import (
    first_batches,
    images_to_attack,
    logits_of,
    subset_text,
    warn_of_zero_gradients,
    zero_gradients,
)


class AttackRow(BaseModel):
    """The result of one attack; `robust_acc` is over all evaluated images, also those wrong from the start."""

    model_config = ConfigDict(frozen=True)

    attack: str  # its label: pgd-10
    settings: AttackConfig
    images: int
    robust_acc: float  # share right before and after the attack
    success_rate: float | None  # share of the images right before that are wrong after; None: none was right


class RobustnessReport(BaseModel):
    """Accuracy of a classifier on clean and on attacked images."""

    model_config = ConfigDict(frozen=True)

    images: int
    subset: str  # which images, in words
    loss: str  # what the attacks raise
    clean_acc: float
    rows: tuple[AttackRow, ...]
    worst_case_acc: float  # share right before and after every attack
    zero_gradients: int  # images right before whose gradient is zero everywhere: attacks cannot move them

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain lists and numbers."""
        return self.model_dump(mode="json")


class _Outcome(NamedTuple):
    """What became of a batch."""

    clean: Tensor  # (N,) bool, right before
    robust: Tensor  # (attacks, N) bool, right before and after
    zero_gradients: int


def attack_report(
    classifier: nn.Module,
    batches: Batches,
    attacks: Sequence[AttackConfig],
    *,
    n_examples: int,
    progress: Progress | None = None,
) -> RobustnessReport:
    """Return the accuracy under each attack and under all of them; modes and random state stay as they were.

    Each attack runs on every image that is right at the start; one that is wrong at the start counts as
    wrong.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches in order, on the classifier's device.
        attacks: what to run, as `RobustnessSettings.configs` gives.
        n_examples: the first so many images are taken, or all where there are fewer.
        progress: who watches.

    Raises ``DataError`` when there is no image or images carry several labels, ``ModelError`` when the
    logits are not finite.
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
    if batch.targets.ndim != 1:
        raise DataError(
            f"targets have shape {tuple(batch.targets.shape)}; this report needs one label an image"
        )
    clean = _is_right(classifier, batch.images, batch.targets)
    robust = clean.repeat(len(attacks), 1)
    images, targets, indices = batch.images[clean], batch.targets[clean], batch.indices[clean]
    if len(images) == 0:
        return _Outcome(clean, robust, 0)
    for row, attack in zip(robust, attacks, strict=True):
        row[clean] = _is_right(classifier, attack.perturb(classifier, images, targets, indices), targets)
    return _Outcome(clean, robust, zero_gradients(classifier, images, targets))


def _is_right(classifier: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    right: Tensor = logits_of(classifier, images).argmax(1) == targets
    return right


def _report(
    outcomes: Sequence[_Outcome], attacks: Sequence[AttackConfig], *, whole: bool
) -> RobustnessReport:
    clean = torch.cat([outcome.clean for outcome in outcomes])
    robust = torch.cat([outcome.robust for outcome in outcomes], dim=1)
    images, right = len(clean), int(clean.sum())
    rows = [
        AttackRow(
            attack=attack.label,
            settings=attack,
            images=images,
            robust_acc=int(kept.sum()) / images,
            success_rate=1 - int(kept.sum()) / right if right else None,
        )
        for attack, kept in zip(attacks, robust, strict=True)
    ]
    return RobustnessReport(
        images=images,
        subset=subset_text(images, whole=whole),
        loss="cross-entropy",
        clean_acc=right / images,
        rows=tuple(rows),
        worst_case_acc=int(robust.all(0).sum()) / images,
        zero_gradients=sum(outcome.zero_gradients for outcome in outcomes),
    )


__all__ = ["AttackRow", "RobustnessReport", "attack_report"]
