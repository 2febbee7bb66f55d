"""Signs that attacks failed for reasons of their own, so that the accuracy they left is no robustness.

The signs are those of Carlini et al. 2019, arXiv 1902.06705, section 3, and of AutoAttack's warnings (Croce & Hein
2020, github.com/fra31/auto-attack); the limits are kdcam's choice where none is named.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from kdcam.data.batches import Batches
from kdcam.progress import Progress, Silent
from kdcam.robustness.attacks import input_gradient, square
from kdcam.robustness.probe import Budget, Probe
from kdcam.robustness.progress_file import Work
from kdcam.robustness.stopping import stop_if_asked
from kdcam.robustness.subset import batched_anew, logits_of

MASKING = "this number may be gradient masking"
CHECKED_IMAGES = 100  # kdcam's choice: enough for steps of a point, and few enough to be cheap
QUERIES = 300  # of the black box
LEAST_IMAGES = 10  # kdcam's choice: one image of fewer says nothing of a share

_MOST_ZERO_GRADIENTS = 0.01
_LEAST_ROUNDED = 0.95
_NOISE = 0.02  # two images of a hundred
_BLACK_BOX = 0.002  # AutoAttack's 0.2 points
_LARGE_LINF = 0.5  # every image can become the same gray
_STEPS = (1, 10, 40)
_USUAL_STEPS = 10
_LARGE_STEPS = 40
_SHADE = 1 / 255
_SAME = 1e-4  # of the largest logit: what a GPU's order of additions may change


class Check(BaseModel):
    """One sign: whether it is as it should be."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    value: float | None  # None: there was too little to measure it on, so that it counts as passed
    limit: float
    text: str  # what was measured, and what a failure means


class Known(NamedTuple):
    """What the attacks themselves told already; None: they did not."""

    images: int  # evaluated ones, of which the shares are
    zero_gradients: float | None = None  # share of the attacked images whose gradient is zero everywhere
    black_box_gain: float | None = None  # as in `kdcam.robustness.evaluate.RobustnessReport`
    transfer_gain: float | None = None  # likewise
    transfer_places: tuple[int, ...] = ()


def run_checks(
    classifier: nn.Module,
    batches: Batches,
    wanted: Tensor,
    budget: Budget,
    *,
    known: Known | None = None,
    work: Work | None = None,
    progress: Progress | None = None,
) -> tuple[Check, ...]:
    """Return whether attacks on a classifier can be believed; modes and random state stay as they were.

    Of several labels an image the accuracy is that of decisions, and the checks that need one label are left out.
    Shares of fewer than `LEAST_IMAGES` images are not judged.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches in order.
        wanted: (images,) bool on the CPU, those that are right at the start; the first `CHECKED_IMAGES` are taken.
        budget: of the attacks to check.
        known: what the attacks told; of zero gradients otherwise those of the checked images, and no check of what is
            not known of the black box and of transfer.
        work: holds each check that is done, so that it is not done again; by default in memory alone.
        progress: who watches.

    Raises ``Interrupted`` when asked to stop.
    """
    chosen = wanted & (wanted.cumsum(0) <= CHECKED_IMAGES)
    probe = Probe(classifier, [placed.batch for placed in batched_anew(batches, chosen)], budget)
    if not probe.batches:
        return ()
    told, done, watcher = known or Known(probe.images), work or Work(), progress or Silent()
    makers = _makers(probe, told)
    if told.transfer_gain is not None:
        places = torch.zeros_like(wanted)
        places[list(told.transfer_places)] = True
        gained = Probe(classifier, [placed.batch for placed in batched_anew(batches, places)], budget)
        makers["transfer"] = lambda: _transfer(told, gained)
    found = list[Check]()
    for name, make in makers.items():
        found.append(done.section(f"check {name}", Check, make))
        watcher.advance("checks", len(found), len(makers))
        stop_if_asked(watcher)
    return tuple(found)


def _makers(probe: Probe, told: Known) -> dict[str, Callable[[], Check]]:
    makers: dict[str, Callable[[], Check]] = {
        "zero_gradients": lambda: _zero_gradients(probe, told.zero_gradients),
        "falls_with_eps": lambda: _falls_with_eps(probe),
        "falls_with_steps": lambda: _falls_with_steps(probe),
        "same_twice": lambda: _same_twice(probe),
        "large_eps": lambda: _large_eps(probe),
        "rounding": lambda: _rounding(probe),
    }
    if probe.batches[0].targets.ndim == 1:
        makers["black_box"] = lambda: _black_box(probe)
        makers["probabilities"] = lambda: _probabilities(probe)
    if told.black_box_gain is not None:
        makers["black_box_attack"] = lambda: _black_box_attack(told)
    return makers


def _share_check(name: str, share: float, limit: float, text: str, images: int) -> Check:
    """Return a check of a share that should not be above a limit; of too few images it says nothing."""
    judged = images >= LEAST_IMAGES
    passed, value = share <= limit or not judged, share if judged else None
    return Check(name=name, passed=passed, value=value, limit=limit, text=text)


def failed(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the checks that are not as they should be."""
    return tuple(check for check in checks if not check.passed)


def _zero_gradients(probe: Probe, known: float | None) -> Check:
    share = known
    if share is None:
        gradients = [input_gradient(probe.classifier, batch.images, batch.targets) for batch in probe.batches]
        flat = torch.cat([(gradient == 0).flatten(1).all(1) for gradient in gradients])
        share = float(flat.double().mean())
    return _share_check(
        "zero_gradients",
        share,
        _MOST_ZERO_GRADIENTS,
        "share of images whose gradient is zero everywhere, so that gradient attacks cannot move them",
        probe.images,
    )


def _falls_with_eps(probe: Probe) -> Check:
    most = 1.0 if probe.budget.norm == "linf" else float("inf")
    amounts = [min(probe.budget.eps * factor, most) for factor in (0.25, 0.5, 1, 2)]
    accuracies = [probe.clean_accuracy, *(probe.accuracy(eps, _USUAL_STEPS) for eps in amounts)]
    return _rise_check(
        probe,
        "falls_with_eps",
        accuracies,
        f"largest rise of accuracy under pgd-{_USUAL_STEPS} from none over a quarter, half and all of eps to twice",
    )


def _falls_with_steps(probe: Probe) -> Check:
    accuracies = [probe.accuracy(probe.budget.eps, steps) for steps in _STEPS]
    steps = ", ".join(map(str, _STEPS))
    return _rise_check(
        probe,
        "falls_with_steps",
        accuracies,
        f"largest rise of accuracy from pgd of {steps} steps to the next",
    )


def _rise_check(probe: Probe, name: str, accuracies: Sequence[float], text: str) -> Check:
    rise = max(after - before for before, after in pairwise(accuracies))
    return _share_check(name, rise, max(_NOISE, 1 / probe.images), text, probe.images)


def _large_eps(probe: Probe) -> Check:
    pixels = probe.batches[0].images[0].numel()
    eps = _LARGE_LINF if probe.budget.norm == "linf" else _LARGE_LINF * pixels**0.5
    # Of several labels not all decisions need fall: labels may go together, whatever the image.
    right = probe.right(probe.attacked(eps, _LARGE_STEPS)).view(probe.images, -1).all(1)
    return _share_check(
        "large_eps",
        float(right.double().mean()),
        max(0.01, 1 / probe.images),
        f"accuracy (of several labels an image: with all of them right) under pgd-{_LARGE_STEPS} at eps {eps:.3g}, "
        "at which every image can become gray",
        probe.images,
    )


def _black_box(probe: Probe) -> Check:
    norm, eps, seed = probe.budget
    fell = 0
    for found, batch in zip(probe.attacked(eps, _STEPS[-1]), probe.batches, strict=True):
        stands = logits_of(probe.classifier, found).argmax(1) == batch.targets
        images, targets = batch.images[stands], batch.targets[stands]
        if len(images) == 0:
            continue
        tried = square(
            probe.classifier,
            images,
            targets,
            eps=eps,
            norm=norm,
            n_queries=QUERIES,
            seed=seed,
            indices=batch.indices[stands.to(batch.indices.device)],
        )
        fell += int((logits_of(probe.classifier, tried).argmax(1) != targets).sum())
    return _share_check(
        "black_box",
        fell / probe.images,
        max(_BLACK_BOX, 1 / probe.images),
        f"share of images that stand pgd-{_STEPS[-1]} and fall to {QUERIES} queries of square, which sees no gradient",
        probe.images,
    )


def _black_box_attack(told: Known) -> Check:
    assert told.black_box_gain is not None
    return _share_check(
        "black_box_attack",
        told.black_box_gain,
        max(_BLACK_BOX, 1 / told.images),
        "share of images that stand every attack by gradients and fall to the attack square, at the worst budget",
        told.images,
    )


def _transfer(told: Known, gained: Probe) -> Check:
    """Check what only the source's images fool, less what a longer attack on the network itself would have found."""
    assert told.transfer_gain is not None
    share = told.transfer_gain * gained.accuracy(gained.budget.eps, _STEPS[-1]) if gained.batches else 0.0
    return _share_check(
        "transfer",
        share,
        max(_BLACK_BOX, 1 / told.images),
        f"share of images that stand every attack on the network itself, pgd-{_STEPS[-1]} too, and fall to images "
        "crafted on another",
        told.images,
    )


def _same_twice(probe: Probe) -> Check:
    worst = 0.0
    for batch in probe.batches:
        first, second = (logits_of(probe.classifier, batch.images) for _ in range(2))
        scale = float(first.abs().max().clamp(min=1e-12))
        worst = max(worst, float((first - second).abs().max()) / scale)
    return Check(
        name="same_twice",
        passed=worst <= _SAME,
        value=worst,
        limit=_SAME,
        text="largest difference of the logits of one image in two passes, as a share of the largest logit; "
        "a network that draws needs attacks that average",
    )


def _rounding(probe: Probe) -> Check:
    norm, eps, _ = probe.budget
    spread = eps if norm == "linf" else eps / probe.batches[0].images[0].numel() ** 0.5
    judged, lost, turned = spread >= _SHADE, 0, 0
    if judged:  # else rounding takes the change back whatever the network
        # To the end: an image that stopped at the border is brought back by half a shade whatever the network.
        found = probe.attacked(eps, _USUAL_STEPS, to_the_end=True)
        fell = probe.right([batch.images for batch in probe.batches]) & ~probe.right(found)
        stands = probe.right([(images * 255).round() / 255 for images in found])
        lost, turned = int((fell & stands).sum()), int(fell.sum())
    return Check(
        name="rounding",
        passed=turned < LEAST_IMAGES or lost <= max(1, (1 - _LEAST_ROUNDED) * turned),
        value=1 - lost / turned if turned >= LEAST_IMAGES else None,
        limit=_LEAST_ROUNDED,
        text="share of adversarial images that still fool as files of 8 bits a colour (or all but one do); not judged "
        "where a change is below a shade",
    )


def _probabilities(probe: Probe) -> Check:
    like = []
    for batch in probe.batches:
        outputs = logits_of(probe.classifier, batch.images)
        like.append((outputs >= 0).all(1) & ((outputs.sum(1) - 1).abs() < 1e-3))
    share = float(torch.cat(like).double().mean())
    return Check(
        name="probabilities",
        passed=share < 1,
        value=share,
        limit=1.0,
        text="share of images whose outputs are above 0 and add up to 1: attacks need logits, not probabilities",
    )


__all__ = ["CHECKED_IMAGES", "LEAST_IMAGES", "MASKING", "QUERIES", "Check", "Known", "failed", "run_checks"]
