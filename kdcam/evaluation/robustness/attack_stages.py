"""The attacks of a report in stages, each run batch by batch: what stands is marked, a kill loses one batch."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks.attack_requirements import LOSS_WORDS
from kdcam.attacks.attack_settings import AnyAttack
from kdcam.attacks.attacked_network import CountedClassifier
from kdcam.data.batches.batch import Batch, Batches
from kdcam.errors import DataError
from kdcam.evaluation.robustness.evaluated_images import rebatched
from kdcam.evaluation.robustness.partial_results import (
    FELL,
    PENDING,
    STANDS,
    PartialResults,
    stop_with_results_kept,
)
from kdcam.evaluation.robustness.reference_runs import ReferenceNetwork
from kdcam.runtime.progress import Progress
from kdcam.settings.messages import duration_text, listed

_OWN_LOSSES = "losses of its own"
_TOLD_EVERY_SECONDS = 20.0
# What float32 may round: pixels, and the length of a long change. kdcam's choice.
_BEYOND, _RELATIVE = 1e-6, 1e-5
_LEAVE_OUT = "what it found is no attack within the budget: leave it out"


class AttackStage(NamedTuple):
    """One attack, or one of its stages."""

    key: str  # in the partial results
    attack: AnyAttack
    crafted_on: nn.Module


class PlannedAttack(NamedTuple):
    """One row of a report: an attack, the network that it is crafted on, and its stages."""

    attack: AnyAttack
    source: ReferenceNetwork | None
    stages: tuple[AttackStage, ...]

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
    planned = list[PlannedAttack]()
    for number, attack in enumerate(attacks):
        parts = attack.stages(num_classes) or (attack,)
        stages = tuple(AttackStage(f"{number}/{part.label}", part, classifier) for part in parts)
        planned.append(PlannedAttack(attack, None, stages))
    if source is not None:
        for number, attack in enumerate(attacks):
            if attack.transfers:
                whole = without_early_stop(attack)
                stage = AttackStage(f"{number}/{attack.label}/source", whole, source.classifier)
                planned.append(PlannedAttack(whole, source, (stage,)))
    return planned


def without_early_stop(attack: AnyAttack) -> AnyAttack:
    """Return an attack that goes on after the source is fooled: an image just over its border seldom fools
    another network."""
    if "stop_when_fooled" not in type(attack).model_fields:
        return attack
    return attack.model_copy(update={"stop_when_fooled": False})


def attacks_by_budget(planned: Sequence[PlannedAttack]) -> dict[float, list[int]]:
    """Return for each eps, from small to large, which attacks are within it: its own, and smaller ones of its norm."""
    found = {}
    for eps in sorted({row.attack.eps for row in planned}):
        norms = {row.attack.norm for row in planned if row.attack.eps == eps}
        within = [
            row.attack.eps == eps or (row.attack.eps < eps and row.attack.norm in norms) for row in planned
        ]
        found[eps] = [number for number, inside in enumerate(within) if inside]
    return found


def losses_text(planned: Sequence[PlannedAttack]) -> str:
    """Return in words what the attacks raise, with their names where it is not the same for all."""
    raised: dict[str, dict[str, None]] = {}  # the names once each, in their order
    for stage in (stage for row in planned if row.source is None for stage in row.stages):
        attack = stage.attack
        words = _OWN_LOSSES if attack.name == "autoattack" else LOSS_WORDS[attack.raises]
        raised.setdefault(words, {})[attack.label] = None
    if len(raised) == 1:
        return next(iter(raised))
    return listed(f"{words} ({listed(labels)})" for words, labels in raised.items())


Judge = Callable[[Tensor, Batch, Tensor], Tensor]
"""(positions (N,), clean batch, adversarial images (N, C, H, W)) -> bool (N,): which images still count as right."""


class PassCounts(NamedTuple):
    """What an attack took, in images that went through the network; an image that goes through twice counts twice."""

    attacked: int  # images
    forwards: int
    backwards: int


class RemainingTime:
    """Tells a watcher how far the attacks are and, now and then, how long they will take."""

    def __init__(self, stages: Sequence[AttackStage], images: int, progress: Progress) -> None:
        self._progress = progress
        self._left = {stage.key: images * stage.attack.expected_passes for stage in stages}
        self._begun = self._told = time.monotonic()
        self._done = 0.0  # expected passes of the images done since the start
        self._seen: dict[str, int] = {}

    def begin(self, stage: AttackStage, images: int, pending: int) -> None:
        """Take how many images a stage has now, and how many of them are still to do."""
        self._left[stage.key] = pending * stage.attack.expected_passes
        self._seen[stage.key] = images - pending

    def tell(self, stage: AttackStage, done: int, images: int) -> None:
        """Take how many images of a stage are done; raise ``Interrupted`` where the user asked to stop."""
        one = stage.attack.expected_passes
        self._done += (done - self._seen[stage.key]) * one
        self._seen[stage.key] = done
        self._left[stage.key] = (images - done) * one
        self._progress.advance(stage.attack.label, done, images)
        now = time.monotonic()
        if now - self._told > _TOLD_EVERY_SECONDS and any(self._left.values()):
            self._told = now
            self._progress.message(
                f"{stage.attack.label}: {done:,} of {images:,} images; the attacks take at most about "
                f"{duration_text(self.seconds_left)} more"
            )
        stop_with_results_kept(self._progress)

    @property
    def seconds_left(self) -> float:
        """Seconds to the end of the attacks, if each takes the passes it may take; fallen images make it less."""
        elapsed = time.monotonic() - self._begun
        return elapsed * sum(self._left.values()) / self._done if self._done else 0.0


def run_stage(
    stage: AttackStage,
    batches: Batches,
    candidates: Tensor,
    *,
    judge: Judge,
    partial: PartialResults,
    clock: RemainingTime,
) -> Tensor:
    """Return which of all images (images,) bool still stand; those that are no candidates do not.

    Args:
        stage: what to run.
        batches: the part, in order.
        candidates: (images,) bool on the CPU, the images to attack.
        judge: what counts as right.
        partial: what has been done already is not done again.
        clock: is told of every batch.

    Raises ``DataError`` where the attack leaves its budget or [0, 1].
    """
    marks, counts = partial.marks(stage.key, len(candidates)), partial.counts(stage.key)
    images = int(candidates.sum())
    for positions, batch in rebatched(batches, candidates & (marks == PENDING)):
        counted = CountedClassifier(stage.crafted_on)
        found = stage.attack.perturb(counted, batch.images, batch.targets, batch.indices)
        _check_within(stage.attack, batch.images, found)
        stands = judge(positions, batch, found).cpu()
        marks[positions] = torch.where(stands, STANDS, FELL).to(torch.uint8)
        took = PassCounts(len(positions), counted.forwards, counted.backwards)
        for name, number in took._asdict().items():
            counts[name] = counts.get(name, 0) + number
        partial.save()
        clock.tell(stage, int((candidates & (marks != PENDING)).sum()), images)
    return candidates & (marks == STANDS)


def _check_within(attack: AnyAttack, clean: Tensor, found: Tensor) -> None:
    """Raise ``DataError`` where an attack, which may be another package's, left its budget or [0, 1]."""
    if found.shape != clean.shape:
        raise DataError(
            f"{attack.label}: made images {tuple(found.shape)} of {tuple(clean.shape)}; {_LEAVE_OUT}"
        )
    changes = (found - clean).flatten(1)
    change = float(changes.abs().max() if attack.norm == "linf" else changes.norm(dim=1).max())
    if not change <= attack.eps * (1 + _RELATIVE) + _BEYOND:  # NaN is not, either
        raise DataError(
            f"{attack.label}: made images that change by {change:.6g}, where {attack.norm} eps {attack.eps:.6g} is "
            f"allowed; {_LEAVE_OUT}"
        )
    least, most = (float(end) for end in torch.aminmax(found))
    if least < -_BEYOND or most > 1 + _BEYOND:
        raise DataError(
            f"{attack.label}: made pixels from {least:.6g} to {most:.6g}, not in [0, 1]; {_LEAVE_OUT}"
        )


def stage_passes(stage: AttackStage, partial: PartialResults) -> PassCounts:
    """Return what a finished stage took."""
    counts = partial.counts(stage.key)
    return PassCounts(*(counts.get(name, 0) for name in PassCounts._fields))


__all__ = [
    "AttackStage",
    "Judge",
    "PassCounts",
    "PlannedAttack",
    "RemainingTime",
    "attacks_by_budget",
    "losses_text",
    "planned_attacks",
    "run_stage",
    "stage_passes",
    "without_early_stop",
]
