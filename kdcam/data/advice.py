"""A first recipe for a folder of pictures: what is in the folder and on the machine decides the numbers.

All constants here are kdcam's choice: starting points, written with their reasons, easy to change.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kdcam.data.config import RESIDENT_LIMIT
from kdcam.data.folder_facts import FolderFacts, MachineFacts

_SIZES = (32, 48, 64, 96, 128, 160, 224)
_CPU_SIZE, _MANY_CORES_SIZE, _MANY_CORES = 64, 128, 8
_SEEN_ON_CPU, _SEEN_ON_GPU = 200_000, 3_000_000  # pictures in all epochs together
_EPOCHS = (10, 100)  # fewest, most
_HELD_OUT, _MOST_HELD_OUT = 0.1, 0.3
_IMBALANCED = 3.0  # largest class over smallest
_FEW = 200  # pictures a class below which published weights matter most
_MIRRORED = re.compile(r"(^|[^a-z])(left|right|clockwise|counterclockwise)([^a-z]|$)", re.IGNORECASE)


class Advice(NamedTuple):
    """The numbers of a first recipe."""

    epochs: int
    batch_size: int
    image_size: int
    channels: int
    augment: tuple[str, ...]
    validation: float | None  # share to hold out; None where the folder has a part of its own
    test: float | None
    workers: int | None  # None where the pictures are held in memory
    network: str
    learning_rate: float


def advise(folder: FolderFacts, machine: MachineFacts) -> Advice:
    """Return the numbers of a first recipe."""
    size = _image_size(folder, machine)
    smallest = min(folder.train_counts)
    test = None if folder.has_test else _share(smallest)
    validation = None if folder.has_validation else _share(smallest - math.ceil(smallest * (test or 0.0)))
    images = sum(folder.train_counts) * (1 - (test or 0.0)) * (1 - (validation or 0.0))
    batch_size = _batch_size(images, most=64 if machine.gpu is None else 128)
    seen = _SEEN_ON_CPU if machine.gpu is None else _SEEN_ON_GPU
    return Advice(
        epochs=min(max(round(seen / images), _EPOCHS[0]), _EPOCHS[1]),
        batch_size=batch_size,
        image_size=size,
        channels=1 if folder.is_gray else 3,
        augment=_augment(folder, size),
        validation=validation,
        test=test,
        workers=None if size <= RESIDENT_LIMIT else min(max(1, machine.cores - 1), 8),
        network=_network(size, images, machine),
        learning_rate=round(0.1 * min(batch_size, 64) / 64, 4),
    )


def _image_size(folder: FolderFacts, machine: MachineFacts) -> int:
    most = _SIZES[-1]
    if machine.gpu is None:
        most = _MANY_CORES_SIZE if machine.cores >= _MANY_CORES else _CPU_SIZE
    typical = _typical_side(folder)
    fitting = [size for size in _SIZES if size <= min(typical, most)]
    return fitting[-1] if fitting else _SIZES[0]


def _typical_side(folder: FolderFacts) -> int:
    return folder.short_sides[len(folder.short_sides) // 2]


def _share(smallest: int) -> float:
    """Return the share to hold out: a tenth, or more where the smallest class would give no picture."""
    needed = math.ceil(100 / max(smallest, 1)) / 100
    return min(max(_HELD_OUT, needed), _MOST_HELD_OUT)


def _batch_size(images: float, *, most: int) -> int:
    """Return a power of two that leaves about twenty steps an epoch or more."""
    fitting: int = 2 ** int(math.log2(max(images / 20, 1)))
    return min(max(fitting, 8), most)


def _augment(folder: FolderFacts, size: int) -> tuple[str, ...]:
    crop = "crop" if size <= RESIDENT_LIMIT else "resized-crop"
    return (crop,) if _mirror_matters(folder.label_names) else (crop, "flip")


def _mirror_matters(names: Sequence[str]) -> bool:
    """Return whether classes look like digits, letters or directions, which a mirror turns into others."""
    return all(len(name) == 1 for name in names) or any(_MIRRORED.search(name) for name in names)


def _network(size: int, images: float, machine: MachineFacts) -> str:
    if size > RESIDENT_LIMIT:
        return "resnet50" if machine.gpu is not None and images >= 20_000 else "resnet18"
    if machine.gpu is not None:
        return "kdcam:resnet32x4"
    return "kdcam:resnet20" if size <= 32 else "kdcam:resnet20_s2"


def recipe_lines(folder: FolderFacts, machine: MachineFacts) -> list[str]:
    """Return the lines of a commented recipe (TOML) for a folder and a machine."""
    advice = advise(folder, machine)
    return [
        *(f"# {note}" for note in notes(folder, machine)),
        "",
        _line("description", f"{folder.root.name}: {len(folder.label_names)} classes of pictures"),
        _line(
            "epochs",
            advice.epochs,
            "how often every picture is seen; more is better as long as validation improves",
        ),
        _line(
            "batch_size",
            advice.batch_size,
            "pictures of a step; halve it when memory runs out, and lr with it",
        ),
        "",
        *_data_lines(folder, machine, advice),
        "",
        "[model]",
        _line("name", advice.network, _network_reason(advice, machine)),
        *_pretrained_lines(folder, advice),
        "",
        "[[loss]]",
        _line("name", "cross_entropy"),
        "",
        "[[loss]]",
        _line(
            "name",
            "cam",
            "CAM-loss, from half of the run on; leave it out where the object fills the whole picture",
        ),
        "",
        "[optimizer]",
        _line("name", "sgd"),
        _line("lr", advice.learning_rate, "the first number to try others of: 0.3 and 3 times as much"),
        "",
        "[schedule]",
        _line("name", "cosine"),
        _line("warmup_epochs", 1),
    ]


def _data_lines(folder: FolderFacts, machine: MachineFacts, advice: Advice) -> Iterator[str]:
    yield "[data]"
    yield _line("name", "image-folder")
    yield _line("root", str(folder.root))
    yield _line("image_size", advice.image_size, _size_reason(folder, machine, advice))
    if advice.channels == 1:
        yield _line("channels", 1, "the pictures are gray")
    mirrored = "flip" not in advice.augment
    reason = (
        "no flip: a mirror would turn these classes into others"
        if mirrored
        else "random crop and left-right flip"
    )
    yield _line("augment", list(advice.augment), reason)
    if advice.validation is not None:
        yield _line(
            "validation",
            advice.validation,
            "share held out to choose the best epoch (there is no val/ folder)",
        )
    if advice.test is not None:
        yield _line("test", advice.test, "share held out for the final scores (there is no test/ folder)")
    if advice.workers is not None:
        yield _line("workers", advice.workers, f"processes that read pictures, on {machine.cores} cores")
    if folder.unreadable:
        yield _line("on_bad_image", "error", '"skip" leaves out files that cannot be read')


def _size_reason(folder: FolderFacts, machine: MachineFacts, advice: Advice) -> str:
    typical = _typical_side(folder)
    if machine.gpu is None and typical >= 1.5 * advice.image_size:
        return (
            f"the pictures are about {typical}; small keeps an epoch short without a GPU, larger shows more"
        )
    return f"the pictures are about {typical} pixels"


def _network_reason(advice: Advice, machine: MachineFacts) -> str:
    where = f"for {machine.cores} cores" if machine.gpu is None else f"for {machine.gpu}"
    return f"{where} at {advice.image_size} pixels; others: kdcam models list"


def _pretrained_lines(folder: FolderFacts, advice: Advice) -> Iterator[str]:
    if ":" not in advice.network:
        few = sum(folder.train_counts) / len(folder.train_counts) < _FEW
        hint = "much better with so few pictures" if few else "usually better"
        yield _line(
            "pretrained", False, f"true: downloads ImageNet weights, {hint}; then lower lr to a tenth"
        )


def notes(folder: FolderFacts, machine: MachineFacts) -> list[str]:
    """Return what a user should know about the folder, a sentence each."""
    counts, names = folder.train_counts, folder.label_names
    most, fewest = max(counts), min(counts)
    spread = f"{fewest:,}" if most == fewest else f"{fewest:,} to {most:,}"
    largest, smallest = names[counts.index(most)], names[counts.index(fewest)]
    found = [
        f"{folder.root}: {len(names)} classes, {sum(counts):,} pictures to train on, {spread} a class, "
        f"shorter sides {folder.short_sides[0]} to {folder.short_sides[-1]} pixels",
        f"Written for {machine.gpu or 'a CPU'} and {machine.cores} cores; every number is a starting point.",
    ]
    if most >= _IMBALANCED * fewest:
        found.append(
            f"Imbalanced: {largest!r} has {most:,} pictures, {smallest!r} {fewest:,}. Judge by "
            "mean_class_acc (kdcam evaluate), which counts each class alike; collect more of the small ones."
        )
    if fewest * _MOST_HELD_OUT < 1 and not (folder.has_validation and folder.has_test):
        found.append(f"{smallest!r} has {fewest} pictures only: it may be missing from the parts held out.")
    if folder.unreadable:
        found.append(
            f"files of the sample that are no pictures: {len(folder.unreadable)}, the first: {folder.unreadable[0]}"
        )
    return found


def _line(key: str, value: Any, comment: str = "") -> str:
    """Return ``key = value  # comment``; JSON's texts, numbers, booleans and lists are TOML's as well."""
    assignment = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    return f"{assignment:<32}# {comment}" if comment else assignment


__all__ = [
    "Advice",
    "advise",
    "notes",
    "recipe_lines",
]
