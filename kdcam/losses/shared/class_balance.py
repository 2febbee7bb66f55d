"""Class-balanced weights: images of rare classes count more (Cui et al., CVPR 2019, arXiv 1901.05555)."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdcam.losses.loss import Shapes

ClassBalanceBeta = Annotated[
    float,
    Field(ge=0, lt=1, description="0: off, each image counts alike; near 1: each class does"),
]


def class_weights(counts: Tensor, beta: float) -> Tensor:
    """Return each class's weight, (K,) float64, from how many images it has.

    A class of n images has (1 - beta) / (1 - beta^n), rescaled so that the classes that occur have weight 1 on
    average; a class without images has weight 0. ``beta`` in [0, 1): at 0 all weigh 1, near 1 they weigh 1 / n but for
    the factor; classes of many more than 1 / (1 - beta) images weigh the same.

    Raises ``ValueError`` when no class has an image. Source: Cui et al. 2019 (arXiv 1901.05555), equation 4.
    """
    counts = counts.to(torch.float64)
    occurs = counts > 0
    if not occurs.any():
        raise ValueError(f"none of {len(counts)} classes has an image, so that there is nothing to balance")
    # 1 - beta^n without the two nearly equal numbers; the factor 1 - beta cancels in the rescaling.
    log_beta = torch.log1p(torch.tensor(beta - 1, dtype=torch.float64))
    weights = torch.where(occurs, -1 / torch.expm1(counts.clamp(min=1) * log_beta), 0.0)
    return weights * (occurs.sum() / weights.sum())


def training_weights(shapes: Shapes, beta: float) -> Tensor | None:
    """Return the weights (K,) float32 of the training labels' classes; None at ``beta`` 0, where all would weigh 1."""
    if beta == 0:
        return None
    counts = torch.bincount(shapes.train_targets, minlength=shapes.num_classes)
    return class_weights(counts, beta).float()


def image_weights(targets: Tensor, class_weights: Tensor) -> Tensor:
    """Return each image's weight, (N,): its label's for ``targets`` (N,), the rows' mean for mixed rows (N, K)."""
    if targets.ndim == 1:
        return class_weights[targets]
    # No matrix product: autocast would make it half precision.
    return (targets * class_weights).sum(1)


__all__ = ["ClassBalanceBeta", "class_weights", "image_weights", "training_weights"]
