"""The rows of a report of attacks, with one label an image or several, and what their differences tell."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks.attack_requirements import LOSS_WORDS
from kdcam.attacks.budget import Norm
from kdcam.attacks.config import AnyAttack
from kdcam.evaluation.robustness.attack_stages import AttackStage, ReferenceNetwork, without_early_stop
from kdcam.evaluation.robustness.missed_by_gradients import AttackGain
from kdcam.runtime.numerics import share_of
from kdcam.settings.messages import listed

_ITERATIVE = 10  # gradient steps from which on an attack should leave nothing to a search without gradients
_SAMPLE = 100  # images of a gain: kept for a check
_OWN_LOSSES = "losses of its own"


class PlannedAttack(NamedTuple):
    """The pieces of work that one row of the report is made of."""

    attack: AnyAttack
    source: ReferenceNetwork | None
    pieces: tuple[AttackStage, ...]

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.attack.label + (f" from {self.source.name}" if self.source else "")


def planned_attacks(
    classifier: nn.Module, attacks: Sequence[AnyAttack], source: ReferenceNetwork | None, num_classes: int
) -> list[PlannedAttack]:
    """Return the rows of a report: each attack on the classifier itself, then those crafted on the source.

    Left out of those on the source: attacks that stop just over its border, and those in stages, since a stage attacks
    what the one before left standing on the classifier, which the source cannot know.
    """
    rows = []
    for number, attack in enumerate(attacks):
        stages = attack.stages(num_classes) or (attack,)
        pieces = [AttackStage(f"{number}/{stage.label}", stage, classifier) for stage in stages]
        rows.append(PlannedAttack(attack, None, tuple(pieces)))
    if source is not None:
        for number, attack in enumerate(attacks):
            if attack.transfers:
                whole = without_early_stop(attack)
                piece = AttackStage(f"{number}/{attack.label}/source", whole, source.classifier)
                rows.append(PlannedAttack(whole, source, (piece,)))
    return rows


def attacks_by_budget(rows: Sequence[PlannedAttack]) -> dict[float, list[int]]:
    """Return for each eps, from small to large, which rows are within it: its own, and smaller ones of its norm."""
    found = {}
    for eps in sorted({row.attack.eps for row in rows}):
        norms = {row.attack.norm for row in rows if row.attack.eps == eps}
        within = [
            row.attack.eps == eps or (row.attack.eps < eps and row.attack.norm in norms) for row in rows
        ]
        found[eps] = [place for place, inside in enumerate(within) if inside]
    return found


def transfer_gain(rows: Sequence[PlannedAttack], kept: Sequence[Sequence[Tensor]]) -> AttackGain | None:
    """Return what stands every attack on the network itself of a budget and falls to the source's images of it.

    At the budget where that is most; None: there is no source. Arguments as those of `black_box_gain`.
    """
    gains = []
    for norm, eps in _budgets(rows):
        own, crafted = list[Tensor](), list[Tensor]()
        for row, stages in zip(rows, kept, strict=True):
            if (row.attack.norm, row.attack.eps) == (norm, eps):
                (own if row.source is None else crafted).append(stages[-1])
        if crafted:
            gains.append(_gain(norm, eps, own, crafted))
    return _largest(gains)


def black_box_gain(rows: Sequence[PlannedAttack], kept: Sequence[Sequence[Tensor]]) -> AttackGain | None:
    """Return what stands the attacks by gradients of a budget and falls to square there.

    At the budget where that is most. Attacks by gradients: all rows and stages but square and autoattack, which is of
    both kinds; None where no budget has an iterative one of them and square.

    Args:
        rows: of a report.
        kept: what stands (images,) bool after each piece of each row.
    """
    gains = []
    for norm, eps in _budgets(rows):
        white, black, iterative = [], [], False
        for row, stages in zip(rows, kept, strict=True):
            if row.source is not None or (row.attack.norm, row.attack.eps) != (norm, eps):
                continue
            for piece, stands in zip(row.pieces, stages, strict=True):
                if piece.attack.name == "square":
                    black.append(stands)
                elif piece.attack.name != "autoattack":  # it is of both kinds
                    white.append(stands)
                    iterative |= getattr(piece.attack, "steps", 1) >= _ITERATIVE
        if black and iterative:
            gains.append(_gain(norm, eps, white, black))
    return _largest(gains)


def losses_text(rows: Sequence[PlannedAttack]) -> str:
    """Return in words what the attacks of rows raise, with their names where it is not the same for all."""
    raised: dict[str, dict[str, None]] = {}  # the names once each, in their order
    for row in rows:
        for piece in row.pieces if row.source is None else ():
            attack = piece.attack
            words = _OWN_LOSSES if attack.name == "autoattack" else LOSS_WORDS[attack.raises]
            raised.setdefault(words, {})[attack.label] = None
    if len(raised) == 1:
        return next(iter(raised))
    return listed(f"{words} ({listed(labels)})" for words, labels in raised.items())


def _budgets(rows: Sequence[PlannedAttack]) -> list[tuple[Norm, float]]:
    return sorted({(row.attack.norm, row.attack.eps) for row in rows})


def _gain(norm: Norm, eps: float, stand: Sequence[Tensor], fall: Sequence[Tensor]) -> AttackGain:
    gained = torch.stack(list(stand)).all(0) & ~torch.stack(list(fall)).all(0)
    return AttackGain(
        share=share_of(gained), norm=norm, eps=eps, places=tuple(gained.nonzero()[:_SAMPLE, 0].tolist())
    )


def _largest(gains: Sequence[AttackGain]) -> AttackGain | None:
    return max(gains, key=lambda gain: gain.share, default=None)


__all__ = [
    "PlannedAttack",
    "attacks_by_budget",
    "black_box_gain",
    "losses_text",
    "planned_attacks",
    "transfer_gain",
]
