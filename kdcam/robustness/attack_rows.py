"""The rows of a report of attacks, with one label an image or several, and what their differences tell."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.robustness.config import AnyAttack
from kdcam.robustness.pieces import Piece, Source, stages_of, to_the_end

_ITERATIVE = 10  # gradient steps from which on an attack should leave nothing to a search without gradients


class Row(NamedTuple):
    """The pieces of work that one row of the report is made of."""

    attack: AnyAttack
    source: Source | None
    pieces: tuple[Piece, ...]

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.attack.label + (f" from {self.source.name}" if self.source else "")


def rows_of(
    classifier: nn.Module, attacks: Sequence[AnyAttack], source: Source | None, num_classes: int
) -> list[Row]:
    """Return the rows of a report: each attack on the classifier itself, then those crafted on the source.

    Left out of those on the source: attacks that stop just over its border, and those in stages, since a stage attacks
    what the one before left standing on the classifier, which the source cannot know.
    """
    rows = []
    for number, attack in enumerate(attacks):
        stages = stages_of(attack, num_classes) or (attack,)
        pieces = [Piece(f"{number}/{stage.label}", stage, classifier) for stage in stages]
        rows.append(Row(attack, None, tuple(pieces)))
    if source is not None:
        for number, attack in enumerate(attacks):
            if attack.transfers:
                whole = to_the_end(attack)
                piece = Piece(f"{number}/{attack.label}/source", whole, source.classifier)
                rows.append(Row(whole, source, (piece,)))
    return rows


def rows_by_budget(rows: Sequence[Row]) -> dict[float, list[int]]:
    """Return for each eps, from small to large, which rows are within it: its own, and smaller ones of its norm."""
    found = {}
    for eps in sorted({row.attack.eps for row in rows}):
        norms = {row.attack.norm for row in rows if row.attack.eps == eps}
        within = [
            row.attack.eps == eps or (row.attack.eps < eps and row.attack.norm in norms) for row in rows
        ]
        found[eps] = [place for place, inside in enumerate(within) if inside]
    return found


def only_by_source(rows: Sequence[Row], kept: Sequence[Tensor]) -> Tensor | None:
    """Return which images (images,) only the source's fool; None: there is no source."""
    own = [stands for row, stands in zip(rows, kept, strict=True) if row.source is None]
    crafted = [stands for row, stands in zip(rows, kept, strict=True) if row.source is not None]
    return torch.stack(own).all(0) & ~torch.stack(crafted).all(0) if crafted else None


def black_box_gain(rows: Sequence[Row], kept: Sequence[Sequence[Tensor]]) -> float | None:
    """Return the share of images that stands the attacks by gradients of a budget and falls to square there.

    At the budget where it is largest. Attacks by gradients: all rows and stages but square and autoattack, which is of
    both kinds; None where no budget has an iterative one of them and square.

    Args:
        rows: of a report.
        kept: what stands (images,) bool after each piece of each row.
    """
    gains = []
    for eps, norm in {(row.attack.eps, row.attack.norm) for row in rows}:
        white, black, iterative = [], [], False
        for row, stages in zip(rows, kept, strict=True):
            if row.source is not None or (row.attack.eps, row.attack.norm) != (eps, norm):
                continue
            for piece, stands in zip(row.pieces, stages, strict=True):
                if piece.attack.name == "square":
                    black.append(stands)
                elif piece.attack.name != "autoattack":  # it is of both kinds
                    white.append(stands)
                    iterative |= getattr(piece.attack, "steps", 1) >= _ITERATIVE
        if black and iterative:
            gained = torch.stack(white).all(0) & ~torch.stack(black).all(0)
            gains.append(int(gained.sum()) / len(gained))
    return max(gains, default=None)


__all__ = ["Row", "black_box_gain", "only_by_source", "rows_by_budget", "rows_of"]
