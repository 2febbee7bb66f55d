"""The precision that losses and maps are worked out in, small arithmetic that several modules share, and the refusal
of outputs that are no numbers."""

from collections.abc import Callable

import torch
from torch import Tensor

from kdcam.errors import ModelError

_SHORTEST = 1e-12  # rows below it have no direction
_NAMED = 5  # images in an error
MEND_WEIGHTS = (
    "the network's weights are damaged or its training broke down: take other weights, or train it again at a lower "
    "learning rate"
)


def wide_dtype(tensor: Tensor) -> torch.dtype:
    """Return float32, or the tensor's own type where that is wider."""
    return torch.promote_types(tensor.dtype, torch.float32)


def wide(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 (float64 stays): half precision is too coarse for sums, exp and small differences."""
    return tensor.to(wide_dtype(tensor))


def unit_rows(weight: Tensor) -> Tensor:
    """Return the rows of ``weight`` (K, E) with length 1, in `wide`; a row of zeros stays, without gradient."""
    weight = wide(weight)
    lengths = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
    return torch.where(lengths > _SHORTEST, weight / lengths.clamp(min=_SHORTEST), 0.0)


def mean_squares(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean squared differences (N, M) of rows (N, E) and (M, E), 0 or more, in the `wide` of the first.

    Through inner products, for nothing of size N x M x E may be made; the rows are moved to the first ones' mean, since
    differences are small beside the values and would be lost in float32.
    """
    with torch.autocast(one.device.type, enabled=False):
        one, other = wide(one), other.to(wide_dtype(one))
        middle = one.detach().mean(0)
        one, other = one - middle, other - middle
        squares = one.square().sum(1)[:, None] + other.square().sum(1) - 2 * one @ other.T
        return squares.clamp(min=0) / one.shape[1]


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the values for which ``counted`` (bool, the same shape) holds; 0 where it holds for none."""
    return (values * counted).sum() / counted.sum().clamp(min=1)


def share_of(hits: Tensor) -> float:
    """Return which share of a bool tensor of any shape, not an empty one, holds: exact, in [0, 1]."""
    return int(hits.sum()) / hits.numel()


def broken_rows(outputs: Tensor) -> Tensor:
    """Return which rows (N,), bool, of outputs (N, ...) hold a NaN or an infinity; a GPU is not waited for."""
    return ~outputs.detach().isfinite().flatten(1).all(1)


# Why outputs that are no numbers are refused: docs/decisions/027.
class FiniteCheck:
    """Finds the images whose outputs are not finite, batch by batch: the largest of NaN is class 0, so that a broken
    network would be scored as one that always says class 0."""

    def __init__(self, what: str = "logits") -> None:
        self.what = what
        self.images = 0
        self.broken: list[int] = []  # positions among the images that were taken

    def take(self, outputs: Tensor) -> bool:
        """Take the outputs (N, ...) of the next N images and return whether all are finite (a GPU is waited for)."""
        found = broken_rows(outputs)
        fine = not bool(found.any())
        if not fine:
            self.broken += (found.nonzero()[:, 0] + self.images).tolist()
        self.images += len(outputs)
        return fine

    def require(self, place: str, name: Callable[[int], str] = str, *, way_out: str = MEND_WEIGHTS) -> None:
        """Raise ``ModelError`` that says of how many images the outputs are not finite, where there are any.

        Args:
            place: what the message begins with.
            name: gives the name of the image at a position; by default the position, counted from 0.
            way_out: what to do about it.
        """
        if not self.broken:
            return
        shown = ", ".join(map(name, self.broken[:_NAMED])) + (" ..." if len(self.broken) > _NAMED else "")
        counted = ", counted from 0" if name is str else ""
        raise ModelError(
            f"{place}: the {self.what} of {len(self.broken)} of {self.images} images are not finite (NaN or infinite): "
            f"{shown}{counted}; {way_out}"
        )


def require_finite_outputs(outputs: Tensor, place: str, *, what: str = "logits") -> None:
    """Raise ``ModelError`` where some rows of the outputs (N, ...) of images are not finite; see `FiniteCheck`."""
    check = FiniteCheck(what)
    check.take(outputs)
    check.require(place)


__all__ = [
    "MEND_WEIGHTS",
    "FiniteCheck",
    "broken_rows",
    "mean_squares",
    "mean_where",
    "require_finite_outputs",
    "share_of",
    "unit_rows",
    "wide",
    "wide_dtype",
]
