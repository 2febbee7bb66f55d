"""Splits of listed pictures by their keys: another picture in the folder moves at most one of those that were there."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kdcam.data.splits.held_out import nothing_held_out
from kdcam.errors import DataError

HeldPart = Literal["test", "validation"]

_TRAIN = "train"
_RANGE = 2**64


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
                raise DataError(nothing_held_out(images, len(label_names), share, key=part, place=place))
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


__all__ = ["HeldOut", "chosen_labels", "held_count", "held_out_by_keys", "key_order"]
