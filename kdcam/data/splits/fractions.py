"""A fraction of the training images, for runs with few of them: stratified, seeded, the smaller inside the larger."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdcam.data.splits.held_out import chosen_labels, key_order, one_of_each_class, stratified_rows_split
from kdcam.errors import DataError
from kdcam.runtime.seeding import seeded_generator

_STREAM = 1  # the draws of the validation and test parts have the seed alone


def fraction_of(
    targets: Tensor, *, fraction: float, seed: int, place: str, keys: Sequence[bytes] | None = None
) -> Tensor:
    """Return the positions (M,), rising, of ``round(fraction * N)`` of the images.

    The images of a fraction are among those of every larger one with the same seed. Each class that has an image keeps
    one. Of pictures with keys one more in the folder changes a few at most, however large the fraction is.

    Args:
        targets: labels (N,), or rows of 0 and 1 (N, K).
        fraction: above 0, at most 1.
        seed: decides which images.
        place: the data's, for the message.
        keys: of listed pictures, whose names then decide nothing.

    Raises:
        DataError: these are too few images to show each class.
    """
    count = round(fraction * len(targets))
    if targets.ndim == 1:
        order = _shuffled(targets, seed) if keys is None else key_order(keys, seed)
        positions, fewest = _label_order(targets, order)[:count], len(targets.unique())
    elif keys is None:
        positions, fewest = _first_rows(targets, count, seed)
    else:
        positions, fewest = _first_rows_by_keys(targets, count, keys, seed)
    fraction_count(len(targets), fewest=fewest, fraction=fraction, place=place)
    return positions.sort().values


def fraction_count(images: int, *, fewest: int, fraction: float, place: str) -> int:
    """Return how many of ``images`` a fraction keeps; ``DataError`` where ``fewest``, one of each class, are more."""
    kept = round(fraction * images)
    if kept < fewest:
        raise DataError(
            f"{place}: fraction = {fraction:g} of {images} training images keeps {kept}, and one image of each class "
            f"takes {fewest}; raise data.fraction, or leave it out"
        )
    return kept


def _shuffled(targets: Tensor, seed: int) -> Tensor:
    return torch.randperm(len(targets), generator=seeded_generator(seed, _STREAM))


def _label_order(targets: Tensor, order: Tensor) -> Tensor:
    """Return positions (N,) in an order of which every beginning is stratified; each class comes as in ``order``.

    One image of each class first. Then the r-th image of n of a class (from 0) has its turn at (r + 1/2) / n, which is
    Webster's way to share seats (Balinski and Young 1982, "Fair Representation"): unlike the largest remainder it
    never takes an image of a class away because the whole grows.
    """
    by_class = order[torch.argsort(targets[order], stable=True)]
    labels = targets[by_class]
    rank = torch.arange(len(labels)) - torch.searchsorted(labels, labels)
    turn = (rank.double() + 0.5) / torch.bincount(targets)[labels]
    turn[rank == 0] = 0.0
    return by_class[torch.argsort(turn, stable=True)]


def _first_rows(targets: Tensor, count: int, seed: int) -> tuple[Tensor, int]:
    """Return ``count`` positions among rows (N, K), and the fewest that show each class.

    Rows are halved by iterative stratification, the half that is kept for training first, as long as the fraction ends
    inside a half; the halves do not depend on ``count``, so that fractions lie inside each other.
    """
    taken: list[Tensor] = []
    left, missing = torch.arange(len(targets)), count
    while True:
        first, second = (left[half] for half in stratified_rows_split(targets[left], share=0.5, seed=seed))
        if len(second) == 0:
            break
        if missing < len(first):
            left = first
        else:
            taken.append(first)
            left, missing = second, missing - len(first)
    fewest = 0 if taken else len(left)  # no half of these shows each class
    return torch.cat([*taken, left[_shuffled(left, seed)[:missing]]]), fewest


def _first_rows_by_keys(targets: Tensor, count: int, keys: Sequence[bytes], seed: int) -> tuple[Tensor, int]:
    """Return ``count`` positions among rows (N, K), and the fewest that show each class.

    Each class is shown first; then a picture counts in one of its labels, as its key chooses.
    """
    order = key_order(keys, seed)
    first = torch.tensor(list(one_of_each_class(targets, order.tolist())), dtype=torch.int64)
    labels = torch.tensor(chosen_labels(keys, targets))
    labels = torch.where(labels < 0, targets.shape[1], labels)  # pictures without a label are a class, too
    ranked = _label_order(labels, order)
    return torch.cat([first, ranked[~torch.isin(ranked, first)]])[:count], len(first)


__all__ = ["fraction_count", "fraction_of"]
