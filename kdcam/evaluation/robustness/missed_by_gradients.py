"""Images that attacks by the network's own gradients miss, though a black box or another network's images find them.

A few steps on the cross-entropy miss some images of any network, so an image counts only where longer attacks, on the
cross-entropy and on the margin that square lowers, leave it standing, too.
"""

from collections.abc import Sequence

import torch
from pydantic import BaseModel
from torch import Tensor

from kdcam.attacks import cw_margin, square
from kdcam.attacks.budget import Norm, at_budget_text
from kdcam.data.batches.batch import Batch
from kdcam.evaluation.robustness.attack_stages import PlannedAttack
from kdcam.evaluation.robustness.evaluated_images import chosen_images, is_right
from kdcam.evaluation.robustness.gradient_masking_check import (
    BLACK_BOX_LIMIT,
    MaskingCheck,
    MaskingProbe,
    share_check,
)
from kdcam.runtime.numerics import share_of

SQUARE_QUERIES = 300  # of the black box
LONG_ATTACK_STEPS = 40  # of the longer attacks
_LONGER = f"pgd-{LONG_ATTACK_STEPS} and cw-margin-{LONG_ATTACK_STEPS}"
_ITERATIVE = 10  # gradient steps from which on an attack should leave nothing to a search without gradients
_SAMPLE = 100  # images of a gain: kept for a check


class AttackGain(BaseModel, frozen=True):
    """What one kind of attacks alone fools, at the budget where that is most."""

    share: float  # of all evaluated images
    norm: Norm
    eps: float  # [0, 1] pixel units
    places: tuple[int, ...]  # the first of these images, by their positions among the evaluated ones


def black_box_gain(
    planned: Sequence[PlannedAttack], standing: Sequence[Sequence[Tensor]]
) -> AttackGain | None:
    """Return what stands the attacks by gradients of a budget and falls to square there.

    At the budget where that is most. Attacks by gradients: all and their stages but square and autoattack, which is of
    both kinds; None where no budget has an iterative one of them and square.

    Args:
        planned: the attacks of a report.
        standing: what stands (images,) bool after each stage of each attack.
    """
    gains = []
    for norm, eps in _budgets(planned):
        white, black, iterative = [], [], False
        for row, after_stages in zip(planned, standing, strict=True):
            if row.source is not None or (row.attack.norm, row.attack.eps) != (norm, eps):
                continue
            for stage, stands in zip(row.stages, after_stages, strict=True):
                if stage.attack.name == "square":
                    black.append(stands)
                elif stage.attack.name != "autoattack":  # it is of both kinds
                    white.append(stands)
                    iterative |= getattr(stage.attack, "steps", 1) >= _ITERATIVE
        if black and iterative:
            gains.append(_gain(norm, eps, white, black))
    return _largest(gains)


def transfer_gain(
    planned: Sequence[PlannedAttack], standing: Sequence[Sequence[Tensor]]
) -> AttackGain | None:
    """Return what stands every attack on the network itself of a budget and falls to the source's images of it.

    At the budget where that is most; None: there is no source. Arguments as those of `black_box_gain`.
    """
    gains = []
    for norm, eps in _budgets(planned):
        own, crafted = list[Tensor](), list[Tensor]()
        for row, after_stages in zip(planned, standing, strict=True):
            if (row.attack.norm, row.attack.eps) == (norm, eps):
                (own if row.source is None else crafted).append(after_stages[-1])
        if crafted:
            gains.append(_gain(norm, eps, own, crafted))
    return _largest(gains)


def _budgets(planned: Sequence[PlannedAttack]) -> list[tuple[Norm, float]]:
    return sorted({(row.attack.norm, row.attack.eps) for row in planned})


def _gain(norm: Norm, eps: float, stand: Sequence[Tensor], fall: Sequence[Tensor]) -> AttackGain:
    gained = torch.stack(list(stand)).all(0) & ~torch.stack(list(fall)).all(0)
    return AttackGain(
        share=share_of(gained), norm=norm, eps=eps, places=tuple(gained.nonzero()[:_SAMPLE, 0].tolist())
    )


def _largest(gains: Sequence[AttackGain]) -> AttackGain | None:
    return max(gains, key=lambda gain: gain.share, default=None)


def black_box_check(probe: MaskingProbe) -> MaskingCheck:
    """Check with a few queries of square what stands the longer attacks."""
    fell = 0
    for found, batch in zip(probe.attacked(probe.budget.eps, LONG_ATTACK_STEPS), probe.batches, strict=True):
        left = chosen_images(batch, _right(probe, found, batch))
        if len(left.indices) > 0:
            fell += _fell_to_square_alone(probe, left)
    return share_check(
        "black_box",
        fell / probe.images,
        max(BLACK_BOX_LIMIT, 1 / probe.images),
        f"share of images that stand {_LONGER} and fall to {SQUARE_QUERIES} queries of square, which sees no gradient, "
        f"{at_budget_text(probe.budget)}",
        probe.images,
        eps=probe.budget.eps,
    )


def black_box_gain_check(gain: AttackGain, probe: MaskingProbe, images: int) -> MaskingCheck:
    """Check what square alone fools of all evaluated images, less what longer attacks by gradients find.

    Args:
        gain: what it fools.
        probe: of images of the gain, at its budget.
        images: how many were evaluated.
    """
    text = (
        f"share of images that stand every attack by gradients, {_LONGER} too, and fall to the attack square"
    )
    return _gain_check("black_box_attack", gain, probe, images, text)


def transfer_gain_check(gain: AttackGain, probe: MaskingProbe, images: int) -> MaskingCheck:
    """Check what only the source's images fool; arguments as those of `black_box_gain_check`."""
    text = (
        f"share of images that stand every attack on the network itself, {_LONGER} too, and fall to images crafted on "
        "another"
    )
    return _gain_check("transfer", gain, probe, images, text)


def _gain_check(name: str, gain: AttackGain, probe: MaskingProbe, images: int, text: str) -> MaskingCheck:
    return share_check(
        name,
        gain.share * _withstanding(probe),
        max(BLACK_BOX_LIMIT, 1 / images),
        f"{text}, {at_budget_text(probe.budget)}",
        images,
        eps=gain.eps,
    )


def _withstanding(probe: MaskingProbe) -> float:
    """Return the share of a probe's images that stands the longer attacks; 0 where there is none."""
    stands = 0
    for found, batch in zip(probe.attacked(probe.budget.eps, LONG_ATTACK_STEPS), probe.batches, strict=True):
        left = chosen_images(batch, _right(probe, found, batch))
        stands += int(_stands_margin(probe, left).sum())
    return stands / max(probe.images, 1)


def _fell_to_square_alone(probe: MaskingProbe, batch: Batch) -> int:
    norm, eps, seed = probe.budget
    tried = square(
        probe.classifier,
        batch.images,
        batch.targets,
        eps=eps,
        norm=norm,
        n_queries=SQUARE_QUERIES,
        seed=seed,
        indices=batch.indices,
    )
    fell = chosen_images(batch, ~_right(probe, tried, batch))
    return int(_stands_margin(probe, fell).sum())


def _stands_margin(probe: MaskingProbe, batch: Batch) -> Tensor:
    """Return which images (N,) stand steps on the margin."""
    if len(batch.indices) == 0:
        return torch.zeros(0, dtype=torch.bool)
    norm, eps, seed = probe.budget
    found = cw_margin(
        probe.classifier,
        batch.images,
        batch.targets,
        eps=eps,
        alpha=eps / 4,
        steps=LONG_ATTACK_STEPS,
        norm=norm,
        seed=seed,
        indices=batch.indices,
        stop_when_fooled=True,
    )
    return _right(probe, found, batch)


def _right(probe: MaskingProbe, images: Tensor, batch: Batch) -> Tensor:
    return is_right(probe.classifier, images, batch.targets)


__all__ = [
    "LONG_ATTACK_STEPS",
    "SQUARE_QUERIES",
    "AttackGain",
    "black_box_check",
    "black_box_gain",
    "black_box_gain_check",
    "transfer_gain",
    "transfer_gain_check",
]
