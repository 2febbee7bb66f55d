"""Which images are held out of training: stratified and seeded, by position in the data or by the keys of files."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kdcam.errors import DataError
from kdcam.runtime.seeding import seeded_generator

HeldPart = Literal["test", "validation"]

_TRAIN = "train"
_RANGE = 2**64  # of the eight bytes of a digest that are taken as a number


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
    """Raise DataError when the share named ``key`` of ``place``'s images, ``counts`` a class, holds nothing out."""
    if share > 0 and sum(held_out_counts(counts, share)) == 0:
        raise DataError(_nothing_held_out(sum(counts), len(counts), share, key=key, place=place))


def _nothing_held_out(images: int, num_classes: int, share: float, *, key: str, place: str) -> str:
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
        raise DataError(_nothing_held_out(len(targets), num_classes, share, key=key, place=place))
    return kept, held


def check_labelled(targets: Tensor) -> None:
    """Raise DataError when not one of the training images' rows (N, K) has a label."""
    if not bool(targets.any()):
        raise DataError("data: no training image has a label; check that the labels belong to the images")


def stratified_split(targets: Tensor, *, num_classes: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return (kept, held out): positions in ``targets`` (N,) in rising order, disjoint, all of them together."""
    held = held_out_counts(torch.bincount(targets, minlength=num_classes).tolist(), share)
    generator = seeded_generator(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    by_class = shuffled[torch.argsort(targets[shuffled], stable=True)]
    rank = torch.arange(len(targets)) - torch.searchsorted(targets[by_class], targets[by_class])
    chosen = rank < torch.tensor(held)[targets[by_class]]
    return by_class[~chosen].sort().values, by_class[chosen].sort().values


def stratified_rows_split(targets: Tensor, *, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return (kept, held out): as `stratified_split`, of rows ``targets`` (N, K) of 0 and 1.

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
        # images of each class
        self.wanted = [[part * count for count in counts] for part in (1 - share, share)]
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


class HeldOut(NamedTuple):
    """Which pictures are held out for test and for validation: positions (M,), rising; the rest is for training."""

    test: Tensor
    validation: Tensor


class _Draw(NamedTuple):
    """What the split's seed makes of a key."""

    side: float  # in [0, 1): which of the two parts the picture may be held out for
    order: bytes  # the smallest are held out


class _Share(NamedTuple):
    """A part that is held out: of the pictures whose side lies from ``low`` to ``high`` the share ``of_side``."""

    part: HeldPart
    low: float
    high: float
    of_side: float


# How pictures are held out by their keys: docs/decisions/022.
def held_out_by_keys(
    keys: Sequence[bytes],
    targets: Tensor,
    *,
    label_names: Sequence[str],
    test: float,
    validation: float,
    seed: int,
    place: str,
) -> HeldOut:
    """Return which pictures to hold out: of each class those with the smallest keys, behind the seed.

    A picture is its key: copies go where it goes. The key says for which of the two parts a picture may be held out; of
    these the smallest of each class are. So each part of each class is decided by its own pictures alone, and one more
    picture pushes at most one other one out of its part, or pulls one in. What a class gives of its share beyond whole
    pictures is one or none, as its name draws. A class keeps a picture for training, and what lies in several classes
    is held out only if all of them hold it out.

    Of several labels a picture counts in one, which its key chooses among them; a class that is left without a picture
    for training gets back the last one that it would hold out.

    Args:
        keys: of N pictures.
        targets: labels (N,) or rows of 0 and 1 (N, K).
        label_names: of the K classes.
        test: share held out for test; 0: none.
        validation: share of the rest held out for validation; 0: none.
        seed: decides the order; data.split_seed.
        place: the data's, for the message.

    Raises ``DataError`` where a share above 0 holds out no picture.
    """
    draws = {key: _draw(key, seed) for key in set(keys)}
    part_of = _parts_by_class(keys, targets, draws, label_names, _shares(test, validation))
    members = _members(keys, targets)
    for own in members.values():  # only of several labels a picture
        if not any(part_of[key] == _TRAIN for key in own):
            part_of[max(own, key=lambda key: draws[key].order)] = _TRAIN
    left = len(draws)
    for part, share in (("test", test), ("validation", validation)):
        if share > 0 and part not in part_of.values():
            spare = _spare(part_of, members) if round(share * left) > 0 else set()
            if not spare:
                images = sum(part_of[key] != "test" for key in keys)
                raise DataError(_nothing_held_out(images, len(label_names), share, key=part, place=place))
            part_of[min(spare, key=lambda key: draws[key].order)] = part
        left -= sum(found == part for found in part_of.values())
    parts = [part_of[key] for key in keys]
    return HeldOut(*(_positions(parts, part) for part in ("test", "validation")))


def _parts_by_class(
    keys: Sequence[bytes],
    targets: Tensor,
    draws: Mapping[bytes, _Draw],
    label_names: Sequence[str],
    shares: Sequence[_Share],
) -> dict[bytes, str]:
    """Return the part of each picture, as its class holds it out, or all of its classes do."""
    part_of: dict[bytes, str] = {}
    for label, members in _classes(keys, targets).items():
        name = label_names[label] if label >= 0 else ""
        keep = 1 if targets.ndim == 1 else 0
        for key, part in _parts_of_class(members, shares, draws, name=name, keep=keep).items():
            part_of[key] = part if part_of.get(key, part) == part else _TRAIN
    return part_of


def key_order(keys: Sequence[bytes], seed: int) -> Tensor:
    """Return the positions (N,) of pictures in the order of their keys behind the seed; copies as they come."""
    orders = [_draw(key, seed).order for key in keys]
    return torch.tensor(sorted(range(len(keys)), key=orders.__getitem__), dtype=torch.int64)


def _draw(key: bytes, seed: int) -> _Draw:
    digest = hashlib.sha256(b"%d:%b" % (seed, key)).digest()
    return _Draw(int.from_bytes(digest[:8]) / _RANGE, digest[8:])


def _classes(keys: Sequence[bytes], targets: Tensor) -> dict[int, list[bytes]]:
    """Return the pictures of each class, each once; of rows in one of their classes, without a label in class -1."""
    labels = targets.tolist() if targets.ndim == 1 else chosen_labels(keys, targets)
    members: dict[int, dict[bytes, None]] = {}
    for key, label in zip(keys, labels, strict=True):
        members.setdefault(int(label), {})[key] = None
    return {label: list(found) for label, found in sorted(members.items())}


def chosen_labels(keys: Sequence[bytes], rows: Tensor) -> list[int]:
    """Return one of the labels of each picture; -1 where it has none."""
    found = [-1] * len(keys)
    best: list[bytes] = [b""] * len(keys)
    for position, label in rows.nonzero().tolist():
        order = hashlib.sha256(b"%d:%b" % (label, keys[position])).digest()
        if found[position] < 0 or order < best[position]:
            found[position], best[position] = label, order
    return found


def _shares(test: float, validation: float) -> tuple[_Share, ...]:
    """Return what to hold out; of two parts each gets a side that leaves half of the training pictures on it."""
    of_all = validation * (1 - test)
    if test == 0 or validation == 0:
        one: HeldPart = "test" if test else "validation"
        return (_Share(one, 0.0, 1.0, test + of_all),) if test or validation else ()
    border = (1 + test - of_all) / 2
    return (
        _Share("test", 0.0, border, test / border),
        _Share("validation", border, 1.0, of_all / (1 - border)),
    )


def _parts_of_class(
    members: Sequence[bytes], shares: Sequence[_Share], draws: Mapping[bytes, _Draw], *, name: str, keep: int
) -> dict[bytes, str]:
    part_of = dict.fromkeys(members, _TRAIN)
    for share in shares:
        sided = [key for key in members if share.low <= draws[key].side < share.high]
        offset = _draw(f"{share.part} {name}".encode("utf-8", "surrogateescape"), 0).side
        count = held_count(len(sided), share.of_side, offset=offset, keep=keep)
        held = sorted(sided, key=lambda key: draws[key].order)[:count]
        part_of.update(dict.fromkeys(held, share.part))
    return part_of


def held_count(count: int, share: float, *, offset: float, keep: int) -> int:
    """Return how many of ``count`` pictures to hold out: the share, rounded down with ``offset`` in [0, 1) added.

    At least ``keep`` are kept. One more picture makes it one more at most; and small classes with other offsets give
    together what their sum would.
    """
    return max(min(int(share * count + offset), count - keep), 0)


def _members(keys: Sequence[bytes], targets: Tensor) -> dict[int, set[bytes]]:
    """Return the pictures that show each class."""
    shown = targets.nonzero() if targets.ndim == 2 else torch.stack([torch.arange(len(keys)), targets], dim=1)
    members: dict[int, set[bytes]] = {}
    for position, label in shown.tolist():
        members.setdefault(label, set()).add(keys[position])
    return members


def _spare(part_of: Mapping[bytes, str], members: Mapping[int, set[bytes]]) -> set[bytes]:
    """Return the pictures in training of which no class needs one."""
    training = [{key for key in own if part_of[key] == _TRAIN} for own in members.values()]
    last = {key for own in training if len(own) == 1 for key in own}
    return {key for key, part in part_of.items() if part == _TRAIN and key not in last}


def _positions(parts: Sequence[str], part: str) -> Tensor:
    return torch.tensor([index for index, found in enumerate(parts) if found == part], dtype=torch.int64)


__all__ = [
    "HeldOut",
    "check_labelled",
    "check_split",
    "checked_split",
    "chosen_labels",
    "drawn_positions",
    "held_count",
    "held_out_by_keys",
    "held_out_counts",
    "interleave_classes",
    "key_order",
    "one_of_each_class",
    "stratified_rows_split",
    "stratified_split",
]
