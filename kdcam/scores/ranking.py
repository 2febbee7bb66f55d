"""How well a score tells two groups of images apart: AUROC, and the false positive rate at 95 % true positives."""

import math

import torch
from torch import Tensor

_TRUE_POSITIVE_RATE = 0.95


def auroc(positive_scores: Tensor, negative_scores: Tensor) -> float | None:
    """Return the share of pairs of a positive and a negative whose positive has the higher score, ties half.

    The area under the receiver operating characteristic as the rank statistic of Mann & Whitney (1947): 1 where
    every positive stands above every negative, 0.5 by chance, 0 where all stand below.

    Args:
        positive_scores: (P,), no NaN; infinities stand at the ends.
        negative_scores: (N,), no NaN.

    None where either group is empty, since there is no pair. Raises ``ValueError`` for other shapes and for NaN.
    """
    _check(positive_scores, negative_scores)
    positives, negatives = positive_scores.double().cpu(), negative_scores.double().cpu()
    if not (len(positives) and len(negatives)):
        return None
    ordered = negatives.sort().values
    below = torch.searchsorted(ordered, positives)
    below_or_level = torch.searchsorted(ordered, positives, right=True)
    # Whole numbers: the count of half pairs is exact, whatever the number of images.
    half_pairs = int((below + below_or_level).sum())
    return half_pairs / (2 * len(positives) * len(negatives))


def fpr_at_95(positive_scores: Tensor, negative_scores: Tensor) -> float:
    """Return the share of negatives (M,) that score at least as high as the threshold that 95 % of the positives
    (N,) reach: the highest such threshold."""
    ordered = positive_scores.sort(descending=True).values
    # the grain of 0.95 * 20 must not make 20 of 19
    needed = max(1, math.ceil(_TRUE_POSITIVE_RATE * len(ordered) - 1e-9))
    return float((negative_scores >= ordered[needed - 1]).double().mean())


def _check(*groups: Tensor) -> None:
    for scores in groups:
        if scores.ndim != 1:
            raise ValueError(f"scores have shape {tuple(scores.shape)}; expected one score an image, (N,)")
        if scores.isnan().any():
            raise ValueError("scores contain NaN, which has no rank; drop those images or mend the score")


__all__ = ["auroc", "fpr_at_95"]
