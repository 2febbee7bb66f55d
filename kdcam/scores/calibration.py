"""Whether a classifier is as often right as it is sure, before and after its logits are scaled by a temperature."""

import math
from typing import NamedTuple

import torch
from pydantic import BaseModel
from torch import Tensor

from kdcam.errors import DataError
from kdcam.runtime.numerics import require_finite_outputs
from kdcam.scores.classification import ECE_BINS, ScoreSums

LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-3, 1e4  # kdcam's choice: the range in which one is looked for
_HALVINGS = 60  # of that range in log T, to well below float64's grain


class ReliabilityRow(BaseModel, frozen=True):
    """The images whose top probability lies in (lower, upper]."""

    lower: float
    upper: float
    images: int
    confidence: float | None  # mean top probability; None: no image
    accuracy: float | None  # share of them whose top class is the label


class Calibration(BaseModel, frozen=True):
    """How good the probabilities of a classifier are; 0 is best in all of them."""

    images: int
    nll: float  # mean negative log-likelihood, in nats
    brier: float  # mean over images of the squared distance to the one-hot label, summed over classes: 0 to 2
    ece: float  # mean over images of |accuracy - confidence| of the image's bin, 15 equal bins: 0 to 1
    mce: float  # the largest |accuracy - confidence| of a bin that has images
    rows: tuple[ReliabilityRow, ...]  # a bin each, rising


class CalibrationReport(BaseModel, frozen=True):
    """Calibration on test images, as trained and with the temperature that suits the validation images best."""

    before: Calibration
    temperature: float | None  # logits are divided by it; None: there are no validation images to fit it on
    fitted_on: int  # validation images
    after: Calibration | None


class _Bins(NamedTuple):
    images: Tensor  # (15,)
    accuracy: Tensor  # (15,), nan where there is no image
    confidence: Tensor  # (15,)


def calibration(logits: Tensor, targets: Tensor) -> Calibration:
    """Return how well calibrated softmax probabilities are.

    Args:
        logits: (N, K).
        targets: (N,) int64.

    NLL and ECE are those of `kdcam.scores.classification`: bins (lo, hi] of the top probability. ECE: Guo et al. 2017,
    arXiv 1706.04599, eq. 3; MCE: eq. 5; Brier 1950, in its form of a sum over the classes.

    Raises ``DataError`` without images or for labels (N, K) or of no class, ``ModelError`` for logits that are not
    finite.
    """
    _check(logits, targets)
    sums = ScoreSums(logits.shape[1])
    sums.add(logits, targets)
    report = sums.report()
    images, right, confidence = sums.bins
    bins = _Bins(images, right / images, confidence / images)
    gaps = (bins.accuracy - bins.confidence).abs()
    return Calibration(
        images=report.images,
        nll=report.nll,
        brier=_brier(logits, targets),
        ece=report.ece,
        mce=float(gaps[images > 0].max()),
        rows=tuple(_row(number, bins) for number in range(ECE_BINS)),
    )


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Return the temperature by which logits are to be divided so that their NLL is least.

    To be given logits (N, K) and labels (N,) of validation images, never of those that are then judged. In float64;
    the NLL is convex in 1 / T, so the zero of its derivative is found by bisection. Where it falls for ever (all
    images are right: T tends to 0) or rises from the start (worse than chance: to infinity), the nearest of 0.001
    and 10,000 is returned.

    Raises as `calibration` does. Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    _check(logits, targets)
    values, labels = logits.detach().cpu().double(), targets.cpu()
    above = values - values.gather(1, labels[:, None])  # (N, K), the logits less the label's

    def is_too_sharp(log_temperature: float) -> bool:
        # d NLL / d(1/T). The label's logit is taken off before the sum: of two large sums the difference is lost.
        shares = (above / math.exp(log_temperature)).softmax(1)
        return bool((shares * above).sum(1).mean() > 0)

    low, high = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if is_too_sharp(middle) else (low, middle)
    return math.exp((low + high) / 2)


def calibration_report(
    logits: Tensor, targets: Tensor, *, validation: tuple[Tensor, Tensor] | None
) -> CalibrationReport:
    """Return the calibration on test images before and after temperature scaling.

    Args:
        logits: (N, K) of the test images.
        targets: (N,) int64.
        validation: logits (M, K) and labels (M,) of validation images, on which alone the temperature is fitted;
            None where a run held none out.

    Raises as `calibration` does.
    """
    before = calibration(logits, targets)
    if validation is None:
        return CalibrationReport(before=before, temperature=None, fitted_on=0, after=None)
    temperature = fit_temperature(*validation)
    return CalibrationReport(
        before=before,
        temperature=temperature,
        fitted_on=len(validation[1]),
        after=calibration(logits.double() / temperature, targets),
    )


def _brier(logits: Tensor, targets: Tensor) -> float:
    probabilities = logits.detach().cpu().double().softmax(1)
    probabilities[torch.arange(len(probabilities)), targets.cpu()] -= 1
    return float(probabilities.square().sum(1).mean())


def _row(number: int, bins: _Bins) -> ReliabilityRow:
    there = bool(bins.images[number] > 0)
    return ReliabilityRow(
        lower=number / ECE_BINS,
        upper=(number + 1) / ECE_BINS,
        images=int(bins.images[number]),
        confidence=float(bins.confidence[number]) if there else None,
        accuracy=float(bins.accuracy[number]) if there else None,
    )


def _check(logits: Tensor, targets: Tensor) -> None:
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or targets.is_floating_point():
        raise DataError(
            f"calibration: logits have shape {tuple(logits.shape)}, labels {tuple(targets.shape)}; it needs (N, K) "
            "and one label an image, (N,)"
        )
    if len(targets) == 0:
        raise DataError("calibration: the part has no image; choose another part, or give it a larger share")
    classes = logits.shape[1]
    strangers = targets[(targets < 0) | (targets >= classes)]
    if len(strangers) > 0:
        raise DataError(
            f"calibration: found label {strangers[0]} where the classifier has {classes} classes (labels 0 to "
            f"{classes - 1}); take data with the classes that it was trained for"
        )
    require_finite_outputs(logits, "calibration")


__all__ = [
    "HIGHEST_TEMPERATURE",
    "LOWEST_TEMPERATURE",
    "Calibration",
    "CalibrationReport",
    "ReliabilityRow",
    "calibration",
    "calibration_report",
    "fit_temperature",
]
