"""How likely a softmax holds an image's label, for losses that are functions of that likelihood."""

from typing import NamedTuple

from torch import Tensor

from kdcam.runtime.numerics import wide


class LabelLogLikelihoods(NamedTuple):
    """Log-likelihoods of the classes that an image's target names, and how much each counts."""

    values: Tensor  # (N, 1) of the label; (N, K) of every class under mixed rows
    shares: Tensor  # the same shape; rows sum to 1


def label_log_likelihoods(logits: Tensor, targets: Tensor) -> LabelLogLikelihoods:
    """Return log softmax(logits) where the targets look: ``logits`` (N, K), ``targets`` (N,) labels or (N, K) rows."""
    every = wide(logits).log_softmax(1)
    if targets.ndim == 1:
        values = every.gather(1, targets[:, None])
        return LabelLogLikelihoods(values, values.new_ones(()).expand_as(values))
    return LabelLogLikelihoods(every, targets.to(every.dtype))


__all__ = ["LabelLogLikelihoods", "label_log_likelihoods"]
