"""Stratified, seeded splits: how many images of each class are held out, and which."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdcam.data.seeding import seeded_generator
from kdcam.errors import DataError


def held_out_counts(counts: Sequence[int], share: float) -> list[int]:
    """Return how many images of each class to hold out of ``counts``: in all ``share`` of them, rounded.

    Largest remainder: each class gives its share rounded down, and the classes with the largest rest give one
    more (the first of equals) until the sum fits. A class always keeps one image for training.
    """
    total = round(share * sum(counts))
    limits = [max(count - 1, 0) for count in counts]
    held = [min(int(share * count), limit) for count, limit in zip(counts, limits, strict=True)]
    by_rest = sorted(range(len(counts)), key=lambda k: int(share * counts[k]) - share * counts[k])
    for k in by_rest:
        if sum(held) < total and held[k] < limits[k]:
            held[k] += 1
    return held


def check_split(counts: Sequence[int], share: float, *, key: str, place: str) -> None:
    """Raise DataError when the share named ``key`` of ``place``'s images, ``counts`` a class, holds nothing
    out."""
    if share > 0 and sum(held_out_counts(counts, share)) == 0:
        out = 'and select = "last"' if key == "validation" else "(no test part)"
        raise DataError(
            f"{place}: {key} = {share:g} of {sum(counts)} training images in {len(counts)} classes holds "
            f"out no image; raise data.{key}, add images, or set data.{key} = 0 {out}"
        )


def stratified_split(targets: Tensor, *, num_classes: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return (kept, held out): positions in ``targets`` (N,) in rising order, disjoint, all of them
    together."""
    held = held_out_counts(torch.bincount(targets, minlength=num_classes).tolist(), share)
    generator = seeded_generator(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[torch.argsort(targets[shuffled], stable=True)]
    rank = torch.arange(len(targets)) - torch.searchsorted(targets[by_class], targets[by_class])
    chosen = rank < torch.tensor(held)[targets[by_class]]
    return by_class[~chosen].sort().values, by_class[chosen].sort().values


def across_classes(targets: Tensor) -> Tensor:
    """Return positions in ``targets`` (N,) that take the classes in turn: the first of each, the second of each ..."""
    by_class = torch.argsort(targets, stable=True)
    rank = torch.empty_like(targets)
    rank[by_class] = torch.arange(len(targets)) - torch.searchsorted(targets[by_class], targets[by_class])
    return by_class[torch.argsort(rank[by_class], stable=True)]


__all__ = ["across_classes", "check_split", "held_out_counts", "stratified_split"]
