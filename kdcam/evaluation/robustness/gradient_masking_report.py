"""Signs that attacks failed for reasons of their own, so that the accuracy they left is no robustness.

The signs are those of Carlini et al. 2019, arXiv 1902.06705, section 3, and of AutoAttack's warnings (Croce & Hein
2020, github.com/fra31/auto-attack); the limits are kdcam's choice where none is named.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcam.attacks import input_gradient
from kdcam.attacks.budget import Budget, at_budget_text
from kdcam.data.batches.batch import Batches
from kdcam.evaluation.robustness.evaluated_images import logits_of, rebatched
from kdcam.evaluation.robustness.gradient_masking_check import (
    LEAST_IMAGES,
    MaskingCheck,
    MaskingProbe,
    share_check,
)
from kdcam.evaluation.robustness.missed_by_gradients import (
    AttackGain,
    black_box_check,
    black_box_gain_check,
    transfer_gain_check,
)
from kdcam.evaluation.robustness.partial_results import PartialResults, stop_with_results_kept
from kdcam.runtime.progress import Progress, Silent

CHECKED_IMAGES = 100  # kdcam's choice: enough for steps of a point, and few enough to be cheap

_MOST_ZERO_GRADIENTS = 0.01
_LEAST_ROUNDED = 0.95
_NOISE = 0.02  # two images of a hundred
_LARGE_LINF = 0.5  # every image can become the same gray
_STEPS = (1, 10, 40)
_USUAL_STEPS = 10
_LARGE_STEPS = 40
_SHADE = 1 / 255
_SAME = 1e-4  # of the largest logit: what a GPU's order of additions may change


class AttackFindings(NamedTuple):
    """What the attacks themselves found that the checks read; None: they did not run."""

    images: int  # evaluated ones, of which the shares are
    zero_gradients: float | None = None  # share of the attacked images whose gradient is zero everywhere
    black_box: AttackGain | None = None  # as in `kdcam.evaluation.robustness.attack_report.RobustnessReport`
    transfer: AttackGain | None = None  # likewise


def masking_checks(
    classifier: nn.Module,
    batches: Batches,
    wanted: Tensor,
    budget: Budget,
    *,
    findings: AttackFindings | None = None,
    partial: PartialResults | None = None,
    progress: Progress | None = None,
) -> tuple[MaskingCheck, ...]:
    """Return whether attacks on a classifier can be believed; modes and random state stay as they were.

    Of several labels an image the accuracy is that of decisions, and the checks that need one label are left out.
    Shares of fewer than `LEAST_IMAGES` images are not judged.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches in order.
        wanted: (images,) bool on the CPU, those that are right at the start; the first `CHECKED_IMAGES` are taken.
        budget: of the attacks to check.
        findings: of the attacks; without them zero gradients are counted on the checked images, and there is no check
            of what the black box or transfer gained.
        partial: holds each check that is done, so that it is not done again; by default in memory alone.
        progress: who watches.

    Raises ``Interrupted`` when asked to stop.
    """
    chosen = wanted & (wanted.cumsum(0) <= CHECKED_IMAGES)
    probe = MaskingProbe(classifier, [placed.batch for placed in rebatched(batches, chosen)], budget)
    if not probe.batches:
        return ()
    findings = findings or AttackFindings(probe.images)
    done, watcher = partial or PartialResults(), progress or Silent()

    def of(gain: AttackGain) -> MaskingProbe:
        gained = torch.zeros_like(wanted)
        gained[list(gain.places)] = True
        batched = [placed.batch for placed in rebatched(batches, gained)]
        return MaskingProbe(classifier, batched, Budget(gain.norm, gain.eps, budget.seed))

    makers = _makers(probe, findings) | _gain_makers(findings, of)
    found = list[MaskingCheck]()
    for name, make in makers.items():
        found.append(done.section(f"check {name}", MaskingCheck, make))
        watcher.advance("checks", len(found), len(makers))
        stop_with_results_kept(watcher)
    return tuple(found)


def _makers(probe: MaskingProbe, findings: AttackFindings) -> dict[str, Callable[[], MaskingCheck]]:
    makers: dict[str, Callable[[], MaskingCheck]] = {
        "zero_gradients": lambda: _zero_gradients(probe, findings.zero_gradients),
        "falls_with_eps": lambda: _falls_with_eps(probe),
        "falls_with_steps": lambda: _falls_with_steps(probe),
        "same_twice": lambda: _same_twice(probe),
        "large_eps": lambda: _large_eps(probe),
        "rounding": lambda: _rounding(probe),
    }
    if probe.batches[0].targets.ndim == 1:
        makers["black_box"] = lambda: black_box_check(probe)
        makers["probabilities"] = lambda: _probabilities(probe)
    return makers


def _gain_makers(
    findings: AttackFindings, of: Callable[[AttackGain], MaskingProbe]
) -> dict[str, Callable[[], MaskingCheck]]:
    makers = dict[str, Callable[[], MaskingCheck]]()
    if (by_square := findings.black_box) is not None:
        makers["black_box_attack"] = lambda: black_box_gain_check(by_square, of(by_square), findings.images)
    if (by_source := findings.transfer) is not None:
        makers["transfer"] = lambda: transfer_gain_check(by_source, of(by_source), findings.images)
    return makers


def _zero_gradients(probe: MaskingProbe, share: float | None) -> MaskingCheck:
    if share is None:
        gradients = [input_gradient(probe.classifier, batch.images, batch.targets) for batch in probe.batches]
        flat = torch.cat([(gradient == 0).flatten(1).all(1) for gradient in gradients])
        share = float(flat.double().mean())
    return share_check(
        "zero_gradients",
        share,
        _MOST_ZERO_GRADIENTS,
        "share of images whose gradient is zero everywhere, so that gradient attacks cannot move them",
        probe.images,
    )


def _falls_with_eps(probe: MaskingProbe) -> MaskingCheck:
    most = 1.0 if probe.budget.norm == "linf" else float("inf")
    amounts = [min(probe.budget.eps * factor, most) for factor in (0.25, 0.5, 1, 2)]
    found = (probe.attacked(eps, _USUAL_STEPS) for eps in amounts)
    return _rise_check(
        probe,
        "falls_with_eps",
        [probe.clean_accuracy, *map(probe.accuracy, found)],
        f"largest rise of accuracy under pgd-{_USUAL_STEPS} from none over a quarter, half and all of eps to twice, "
        f"{at_budget_text(probe.budget)}",
    )


def _falls_with_steps(probe: MaskingProbe) -> MaskingCheck:
    # To the end: stopped where it fools, a longer attack has the shorter one's images and cannot do worse.
    found = (probe.attacked(probe.budget.eps, steps, to_the_end=True) for steps in _STEPS)
    return _rise_check(
        probe,
        "falls_with_steps",
        [*map(probe.accuracy, found)],
        f"largest rise of accuracy at the last step of pgd, of {', '.join(map(str, _STEPS))} steps, from one to the "
        f"next, {at_budget_text(probe.budget)}",
    )


def _rise_check(probe: MaskingProbe, name: str, accuracies: Sequence[float], text: str) -> MaskingCheck:
    rise = max(after - before for before, after in pairwise(accuracies))
    return share_check(name, rise, max(_NOISE, 1 / probe.images), text, probe.images, eps=probe.budget.eps)


def _large_eps(probe: MaskingProbe) -> MaskingCheck:
    pixels = probe.batches[0].images[0].numel()
    eps = _LARGE_LINF if probe.budget.norm == "linf" else _LARGE_LINF * pixels**0.5
    # Of several labels not all decisions need fall: labels may go together, whatever the image.
    right = probe.right(probe.attacked(eps, _LARGE_STEPS)).view(probe.images, -1).all(1)
    return share_check(
        "large_eps",
        float(right.double().mean()),
        max(0.01, 1 / probe.images),
        f"accuracy (of several labels an image: with all of them right) under pgd-{_LARGE_STEPS} at "
        f"{probe.budget.norm} eps {eps:.3g}, at which every image can become gray",
        probe.images,
        eps=eps,
    )


def _same_twice(probe: MaskingProbe) -> MaskingCheck:
    worst = 0.0
    for batch in probe.batches:
        first, second = (logits_of(probe.classifier, batch.images) for _ in range(2))
        scale = float(first.abs().max().clamp(min=1e-12))
        worst = max(worst, float((first - second).abs().max()) / scale)
    return MaskingCheck(
        name="same_twice",
        passed=worst <= _SAME,
        value=worst,
        limit=_SAME,
        text="largest difference of the logits of one image in two passes, as a share of the largest logit; "
        "a network that draws needs attacks that average",
    )


def _rounding(probe: MaskingProbe) -> MaskingCheck:
    norm, eps, _ = probe.budget
    spread = eps if norm == "linf" else eps / probe.batches[0].images[0].numel() ** 0.5
    judged, lost, turned = spread >= _SHADE, 0, 0
    if judged:  # else rounding takes the change back whatever the network
        # To the end: an image that stopped at the border is brought back by half a shade whatever the network.
        found = probe.attacked(eps, _USUAL_STEPS, to_the_end=True)
        fell = probe.right([batch.images for batch in probe.batches]) & ~probe.right(found)
        stands = probe.right([(images * 255).round() / 255 for images in found])
        lost, turned = int((fell & stands).sum()), int(fell.sum())
    single = probe.batches[0].targets.ndim == 1
    fooled = "images that still fool" if single else "decisions that are still wrong"
    return MaskingCheck(
        name="rounding",
        passed=turned < LEAST_IMAGES or lost <= max(1, (1 - _LEAST_ROUNDED) * turned),
        value=1 - lost / turned if turned >= LEAST_IMAGES else None,
        limit=_LEAST_ROUNDED,
        text=f"share of adversarial {fooled} as files of 8 bits a colour (or all but one are); not judged where a "
        f"change is below a shade; {at_budget_text(probe.budget)}",
        eps=eps,
    )


def _probabilities(probe: MaskingProbe) -> MaskingCheck:
    like = []
    for batch in probe.batches:
        outputs = logits_of(probe.classifier, batch.images)
        like.append((outputs >= 0).all(1) & ((outputs.sum(1) - 1).abs() < 1e-3))
    share = float(torch.cat(like).double().mean())
    return MaskingCheck(
        name="probabilities",
        passed=share < 1,
        value=share,
        limit=1.0,
        text="share of images whose outputs are all at least 0 and add up to 1: attacks need logits, not probabilities",
    )


__all__ = ["CHECKED_IMAGES", "AttackFindings", "masking_checks"]
