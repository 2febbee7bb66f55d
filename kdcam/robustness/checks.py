"""Signs that attacks failed for reasons of their own, so that the accuracy they left is no robustness.

The signs are those of Carlini et al. 2019, arXiv 1902.06705, section 3, and of AutoAttack's warnings (Croce & Hein
2020, github.com/fra31/auto-attack); the limits are kdcam's choice where none is named.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from kdcam.data.batches import Batches
from kdcam.progress import Progress, Silent
from kdcam.robustness.attacks import input_gradient, square
from kdcam.robustness.probe import Budget, Probe
from kdcam.robustness.subset import batched_anew, logits_of

MASKING = "this number may be gradient masking"
CHECKED_IMAGES = 100  # kdcam's choice: enough for steps of a point, and few enough to be cheap
QUERIES = 300  # of the black box

_MOST_ZERO_GRADIENTS = 0.01
_LEAST_ROUNDED = 0.95
_NOISE = 0.02  # two images of a hundred
_BLACK_BOX = 0.002  # AutoAttack's 0.2 points
_LARGE_LINF = 0.5  # every image can become the same gray
_STEPS = (1, 10, 40)
_USUAL_STEPS = 10
_LARGE_STEPS = 40
_SAME = 1e-4  # of the largest logit: what a GPU's order of additions may change


class Check(BaseModel):
    """One sign: whether it is as it should be."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    value: float | None  # None: there was nothing to measure it on
    limit: float
    text: str  # what was measured, and what a failure means


def run_checks(
    classifier: nn.Module,
    batches: Batches,
    wanted: Tensor,
    budget: Budget,
    *,
    zero_gradients: float | None = None,
    transfer_gain: float | None = None,
    progress: Progress | None = None,
) -> tuple[Check, ...]:
    """Return whether attacks on a classifier can be believed; modes and random state stay as they were.

    Of several labels an image the accuracy is that of decisions, and the checks that need one label are left out.

    Args:
        classifier: gives logits (N, K) for images in [0, 1].
        batches: evaluation batches in order.
        wanted: (images,) bool on the CPU, those that are right at the start; the first `CHECKED_IMAGES` are taken.
        budget: of the attacks to check.
        zero_gradients: share of the attacked images whose gradient is zero everywhere; None: of the checked ones.
        transfer_gain: share of images that stand every attack on the classifier itself and fall to images crafted
            on another one; None: none were.
        progress: who watches.
    """
    chosen = wanted & (wanted.cumsum(0) <= CHECKED_IMAGES)
    probe = Probe(classifier, [placed.batch for placed in batched_anew(batches, chosen)], budget)
    if not probe.batches:
        return ()
    watcher, found = progress or Silent(), list[Check]()
    makers: list[Callable[[], Check]] = [
        lambda: _zero_gradients(probe, zero_gradients),
        lambda: _falls_with_eps(probe),
        lambda: _falls_with_steps(probe),
        lambda: _same_twice(probe),
    ]
    if probe.batches[0].targets.ndim == 1:
        makers += [
            lambda: _large_eps(probe),
            lambda: _black_box(probe),
            lambda: _rounding(probe),
            lambda: _probabilities(probe),
        ]
    for make in makers:
        found.append(make())
        watcher.advance("checks", len(found), len(makers))
    if transfer_gain is not None:
        found.append(_transfer(transfer_gain, probe))
    return tuple(found)


def failed(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Return the checks that are not as they should be."""
    return tuple(check for check in checks if not check.passed)


def _zero_gradients(probe: Probe, known: float | None) -> Check:
    share = known
    if share is None:
        gradients = [input_gradient(probe.classifier, batch.images, batch.targets) for batch in probe.batches]
        flat = torch.cat([(gradient == 0).flatten(1).all(1) for gradient in gradients])
        share = float(flat.double().mean())
    return Check(
        name="zero_gradients",
        passed=share <= _MOST_ZERO_GRADIENTS,
        value=share,
        limit=_MOST_ZERO_GRADIENTS,
        text="share of images whose gradient is zero everywhere, so that gradient attacks cannot move them",
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
    limit = max(_NOISE, 1 / probe.images)
    return Check(name=name, passed=rise <= limit, value=rise, limit=limit, text=text)


def _large_eps(probe: Probe) -> Check:
    pixels = probe.batches[0].images[0].numel()
    eps = _LARGE_LINF if probe.budget.norm == "linf" else _LARGE_LINF * pixels**0.5
    left = probe.accuracy(eps, _LARGE_STEPS)
    limit = max(0.01, 1 / probe.images)
    return Check(
        name="large_eps",
        passed=left <= limit,
        value=left,
        limit=limit,
        text=f"accuracy under pgd-{_LARGE_STEPS} at eps {eps:.3g}, at which every image can become gray",
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
    limit = max(_BLACK_BOX, 1 / probe.images)
    return Check(
        name="black_box",
        passed=fell / probe.images <= limit,
        value=fell / probe.images,
        limit=limit,
        text=f"share of images that stand pgd-{_STEPS[-1]} and fall to {QUERIES} queries of square, which sees no "
        "gradient",
    )


def _transfer(gain: float, probe: Probe) -> Check:
    limit = max(_BLACK_BOX, 1 / probe.images)
    return Check(
        name="transfer",
        passed=gain <= limit,
        value=gain,
        limit=limit,
        text="share of images that stand every attack on the network itself and fall to images crafted on another",
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
    # To the end: an image that stopped at the border is brought back by half a shade whatever the network.
    found = probe.attacked(probe.budget.eps, _USUAL_STEPS, to_the_end=True)
    fooled = ~probe.right(found)
    kept = fooled & ~probe.right([(images * 255).round() / 255 for images in found])
    lost, images = int((fooled & ~kept).sum()), int(fooled.sum())
    return Check(
        name="rounding",
        passed=lost <= max(1, (1 - _LEAST_ROUNDED) * images),
        value=1 - lost / images if images else None,
        limit=_LEAST_ROUNDED,
        text="share of adversarial images that still fool as files of 8 bits a colour (or all but one do)",
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


__all__ = ["CHECKED_IMAGES", "MASKING", "QUERIES", "Check", "failed", "run_checks"]
