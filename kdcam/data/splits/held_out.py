"""Stratified, seeded splits, for one label an image and for several, and draws from all classes."""

from collections.abc import Iterator, Sequence
from itertools import compress

import torch
from torch import Tensor

from kdcam.errors import DataError
from kdcam.runtime.seeding import seeded_generator


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
        raise DataError(nothing_held_out(sum(counts), len(counts), share, key=key, place=place))


def nothing_held_out(images: int, num_classes: int, share: float, *, key: str, place: str) -> str:
    """Return what to say where the share named ``key`` of ``place``'s images holds none out."""
    out = 'and select = "last"' if key == "validation" else "(no test part)"
    return (
        f"{place}: {key} = {share:g} of {images} training images in {num_classes} classes holds "
        f"out no image; raise data.{key}, add images, or set data.{key} = 0 {out}"
    )


def checked_split(
    targets: Tensor, *, num_classes: int, share: float, seed: int, key: str, place: str
) -> tuple[Tensor, Tensor]:
    """Return (kept, held out) for labels (N,) or rows of 0 and 1 (N, K); DataError when nothing is held out."""
    if targets.ndim == 2:
        kept, held = stratified_rows_split(targets, share=share, seed=seed)
    else:
        kept, held = stratified_split(targets, num_classes=num_classes, share=share, seed=seed)
    if len(held) == 0:
        raise DataError(nothing_held_out(len(targets), num_classes, share, key=key, place=place))
    return kept, held


def check_labelled(targets: Tensor) -> None:
    """Raise DataError when not one of the training images' rows (N, K) has a label."""
    if not bool(targets.any()):
        raise DataError("data: no training image has a label; check that the labels belong to the images")


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


def stratified_rows_split(targets: Tensor, *, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return (kept, held out): positions in ``targets`` (N, K) of 0 and 1 in rising order, disjoint, all of them
    together.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011, "On the stratification of multi-label data"):
    the images of the class with the fewest images left go, one by one, to the side that lacks most of that
    class, then, among equals, to the side that lacks most images. kdcam's additions: one image of each class,
    drawn from the rarest class on, is kept for training beforehand; and neither side outgrows its size, so that
    round(share * N) images are held out, or fewer where keeping those leaves no more.
    """
    count = len(targets)
    order = torch.randperm(count, generator=seeded_generator(seed)).tolist()
    held_size = round(share * count)
    sides = _Sides(targets, (count - held_size, held_size), share)
    images_of: list[list[int]] = [[] for _ in range(targets.shape[1])]
    for position in order:
        for label in sides.left[position]:
            images_of[label].append(position)
    for position in one_of_each_class(targets, order):
        sides.put(position, 0)
    while (rarest := sides.rarest_left()) is not None:
        for position in images_of[rarest]:
            if position in sides.left:
                sides.put(position, sides.lacking(rarest))
    for position in order:
        if position in sides.left:  # an image without a label
            sides.put(position, 1 if sides.room[1] > 0 else 0)
    kept, held = (torch.tensor(sorted(side), dtype=torch.int64) for side in sides.positions)
    return kept, held


class _Sides:
    """The two sides of a split, training (0) and held out (1), and what each still lacks."""

    def __init__(self, targets: Tensor, sizes: tuple[int, int], share: float) -> None:
        counts = targets.sum(0).tolist()
        self.positions: tuple[list[int], list[int]] = ([], [])
        self.room = list(sizes)  # images
        self.wanted = [
            [part * count for count in counts] for part in (1 - share, share)
        ]  # images of each class
        self.left = {position: _classes_of(row) for position, row in enumerate(targets.tolist())}
        self.counts_left = counts

    def rarest_left(self) -> int | None:
        """Return the class with the fewest images left, of those that have any; the first of equals."""
        some = [label for label, count in enumerate(self.counts_left) if count > 0]
        return min(some, key=self.counts_left.__getitem__, default=None)

    def lacking(self, label: int) -> int:
        """Return the side that lacks most of a class, of those with room; of equals the one with more room."""
        if min(self.room) <= 0:
            return 0 if self.room[0] > 0 else 1
        return max((0, 1), key=lambda side: (self.wanted[side][label], self.room[side]))

    def put(self, position: int, side: int) -> None:
        """Put an image on a side."""
        for label in self.left.pop(position):
            self.wanted[side][label] -= 1
            self.counts_left[label] -= 1
        self.room[side] -= 1
        self.positions[side].append(position)


def one_of_each_class(targets: Tensor, order: Sequence[int]) -> Iterator[int]:
    """Yield positions that show each class at least once: the first in ``order`` of each class not yet shown."""
    shuffled = targets[torch.tensor(order, dtype=torch.int64)] > 0
    counts = shuffled.sum(0)
    shown = counts == 0
    for label in counts.argsort(stable=True).tolist():
        if not shown[label]:
            first = int(shuffled[:, label].int().argmax())
            shown |= shuffled[first]
            yield order[first]


def _classes_of(row: Sequence[float]) -> tuple[int, ...]:
    return tuple(compress(range(len(row)), row))


def interleave_classes(targets: Tensor) -> Tensor:
    """Return positions in ``targets`` (N,) that take the classes in turn: the first of each, the second of each ..."""
    by_class = torch.argsort(targets, stable=True)
    rank = torch.empty_like(targets)
    rank[by_class] = torch.arange(len(targets)) - torch.searchsorted(targets[by_class], targets[by_class])
    return by_class[torch.argsort(rank[by_class], stable=True)]


def drawn_positions(targets: Tensor, n_examples: int) -> Tensor | None:
    """Return which images (n,) of a part to take where its first ones do not show all of its classes; None: they do.

    As many of each class as can be, the classes in turn, always the same ones. Of several labels an image the first
    ones are taken whatever they show.

    Args:
        targets: (N,) int64 labels of the part, or rows (N, K).
        n_examples: how many are wanted, at most.
    """
    classes = targets.unique() if targets.ndim == 1 else targets.new_empty(0)
    if len(targets[:n_examples].unique()) >= len(classes):
        return None
    generator = seeded_generator(0)  # not that of an evaluation: another one of theirs meets the same images
    shuffled = torch.randperm(len(targets), generator=generator)
    turn = torch.randperm(int(classes[-1]) + 1, generator=generator)
    return shuffled[interleave_classes(turn[targets[shuffled]])[:n_examples]]


__all__ = [
    "check_labelled",
    "check_split",
    "checked_split",
    "drawn_positions",
    "held_out_counts",
    "interleave_classes",
    "nothing_held_out",
    "one_of_each_class",
    "stratified_rows_split",
    "stratified_split",
]
