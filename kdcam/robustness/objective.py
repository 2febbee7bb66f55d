"""What an attack raises, and when it has done its work: the same for one label an image and for several."""

from typing import Literal

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


def attack_loss(logits: Tensor, targets: Tensor, *, reduction: Literal["none", "sum"]) -> Tensor:
    """Return the loss that an attack raises: (N,), or its sum over the images.

    Args:
        logits: (N, K).
        targets: (N,) int64 labels: the cross-entropy. (N, K) float rows of 0 and 1: the binary cross-entropy
            of every class, summed over the classes.
        reduction: "none": one number an image.
    """
    if targets.ndim == 1:
        return cross_entropy(logits, targets, reduction=reduction)
    rows = binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return rows.sum() if reduction == "sum" else rows.sum(1)


def is_fooled(logits: Tensor, targets: Tensor) -> Tensor:
    """Return for each image (N,) whether nothing is left to attack.

    With one label an image: the top class is another one. With several: every decision at probability 0.5 is
    wrong, since each of them counts.
    """
    if targets.ndim == 1:
        return logits.argmax(1) != targets
    return ~right_decisions(logits, targets).any(1)


def right_decisions(logits: Tensor, targets: Tensor) -> Tensor:
    """Return which decisions (N, K) at probability 0.5 agree with rows (N, K) of 0 and 1."""
    return (logits > 0) == (targets > 0.5)


__all__ = ["attack_loss", "is_fooled", "right_decisions"]
