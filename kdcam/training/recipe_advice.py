"""A first recipe for a folder of pictures: what is in the folder and on the machine decides the numbers.

All constants here are kdcam's choice: starting points, written with their reasons, easy to change.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kdcam.data.common_config import RESIDENT_LIMIT
from kdcam.data.folder_contents import FolderFacts, MachineFacts, PartSizes
from kdcam.data.source_configs import ImageLabelsConfig
from kdcam.errors import DataError
from kdcam.files.paths import shown
from kdcam.settings.messages import first_few

_SIZES = (32, 48, 64, 96, 128, 160, 224)
_CPU_SIZE, _MANY_CORES_SIZE, _MANY_CORES = 64, 128, 8
_SEEN_ON_CPU, _SEEN_ON_GPU = 200_000, 3_000_000  # pictures in all epochs together
_EPOCHS = (10, 100)  # fewest, most
_HELD_OUT, _MOST_HELD_OUT = 0.1, 0.3
_LEARNING_RATE, _AT_BATCH = 0.1, 64
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
    sizes: PartSizes  # what the shares make of the pictures


def advise(folder: FolderFacts, machine: MachineFacts) -> Advice:
    """Return the numbers of a first recipe.

    Raises ``DataError`` where no recipe can train on the folder: a class without a picture that can be read.
    """
    size = _image_size(folder, machine)
    test, validation, sizes = _held_out(folder)
    images = sizes.train
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
        learning_rate=round(_LEARNING_RATE * min(batch_size, _AT_BATCH) / _AT_BATCH, 4),
        sizes=sizes,
    )


def _held_out(folder: FolderFacts) -> tuple[float | None, float | None, PartSizes]:
    """Return the shares to hold out for test and validation (None: the folder has the part), and what they make.

    Where a share would not show each class once, there is no test part, and then no validation part either.
    """
    smallest = folder.images if folder.config.gives_rows else min(folder.train_counts)
    needed = 1 if folder.config.gives_rows else len(folder.label_names)
    test = None if folder.own_test is not None else _share(smallest)
    validation = None if folder.own_validation is not None else _share(smallest)
    less = None if validation is None else _share(smallest - math.ceil(smallest * (test or 0.0)))
    without = None if test is None else 0.0
    for shares in ((test, less), (without, validation)):
        try:
            sizes = folder.sizes(test=shares[0], validation=shares[1])
        except DataError:
            continue  # a share that holds nothing out; what else is wrong is said below
        if all(
            not share or held >= needed
            for share, held in zip(shares, (sizes.test, sizes.validation), strict=True)
        ):
            return *shares, sizes
    none = None if validation is None else 0.0
    return without, none, folder.sizes(test=without, validation=none)


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


def recipe_lines(folder: FolderFacts, machine: MachineFacts, advice: Advice) -> list[str]:
    """Return the lines of a commented recipe (TOML) for a folder and a machine."""
    return [
        *(f"# {note}" for note in notes(folder, machine, advice)),
        "",
        _line(
            "description",
            f"{shown(folder.config.root.name)}: {len(folder.label_names)} classes"
            f"{', several a picture' if folder.config.gives_rows else ' of pictures'}",
        ),
        *([_line("task", "multi-label")] if folder.config.gives_rows else []),
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
        *_select_lines(advice),
        "",
        *_data_lines(folder, machine, advice),
        "",
        "[model]",
        _line("name", advice.network, _network_reason(advice, machine)),
        *_pretrained_lines(folder, advice),
        "",
        "[[loss]]",
        _line("name", "binary_cross_entropy" if folder.config.gives_rows else "cross_entropy"),
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
        _line(
            "lr",
            advice.learning_rate,
            f"{_LEARNING_RATE} at batches of {_AT_BATCH} and more, below in proportion to batch_size (kdcam's choice); "
            "the first number to try others of: 0.3 and 3 times as much",
        ),
        "",
        "[schedule]",
        _line("name", "cosine"),
        _line("warmup_epochs", 1),
    ]


def _select_lines(advice: Advice) -> Iterator[str]:
    if advice.validation == 0:
        yield _line("select", "last", "no picture can be spared to choose the best epoch on")


def _data_lines(folder: FolderFacts, machine: MachineFacts, advice: Advice) -> Iterator[str]:
    yield "[data]"
    yield _line("name", folder.config.name)
    yield _line("root", str(folder.config.root))
    if isinstance(folder.config, ImageLabelsConfig):
        yield _line("labels", str(folder.config.labels), "from root on")
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
    sizes, about = advice.sizes, "" if folder.read else "about "
    if advice.validation is not None:
        held = f"held out to choose the best epoch (there is no part of its own): {about}{sizes.validation:,} pictures"
        yield _line("validation", advice.validation, held if advice.validation else "none: too few pictures")
    if advice.test is not None:
        held = f"held out for the final scores (there is no part of its own): {about}{sizes.test:,} pictures"
        yield _line("test", advice.test, held if advice.test else "none: too few pictures")
    if advice.workers is not None:
        yield _line("workers", advice.workers, f"processes that read pictures, on {machine.cores} cores")
    if folder.unreadable:
        many = len(folder.unreadable)
        yield _line(
            "on_bad_image", "skip", f'leaves out the {many} that cannot be read; "error" refuses them'
        )
    elif folder.read is None:
        yield _line(
            "on_bad_image", "skip", 'not all files were looked at; "error" refuses those that cannot be read'
        )


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
        few = folder.images / len(folder.train_counts) < _FEW
        hint = "much better with so few pictures" if few else "usually better"
        yield _line(
            "pretrained", False, f"true: downloads ImageNet weights, {hint}; then lower lr to a tenth"
        )


def notes(folder: FolderFacts, machine: MachineFacts, advice: Advice) -> list[str]:
    """Return what a user should know about the folder, a sentence each."""
    sizes, names = advice.sizes, folder.label_names
    parts = [f"{sizes.train:,} to train on"]
    for part, size, own in (
        ("validation", sizes.validation, folder.own_validation),
        ("test", sizes.test, folder.own_test),
    ):
        parts.append(f"{size:,} held out for {part}" if own is None else f"{size:,} for {part}")
    total = sizes.train + sizes.validation + sizes.test
    found = [
        f"{shown(folder.config.root)}: {len(names)} classes ({first_few(map(shown, names), most=5)}), {total:,} "
        f"{'pictures' if folder.read else 'files'}: {'' if folder.read else 'about '}{', '.join(parts)}; shorter sides "
        f"{folder.short_sides[0]} to {folder.short_sides[-1]} pixels",
        f"Written for {machine.gpu or 'a CPU'} and {machine.cores} cores; every number is a starting point.",
    ]
    found += _label_notes(folder) if folder.config.gives_rows else _class_notes(folder, sizes)
    if folder.unreadable:
        where = "" if folder.read else " of those looked at"
        found.append(
            f"files{where} that cannot be read as pictures and are left out: {len(folder.unreadable)}, the first: "
            f"{shown(folder.unreadable[0])}"
        )
    return [*found, *sizes.warnings]


def _class_notes(folder: FolderFacts, sizes: PartSizes) -> Iterator[str]:
    counts, names = folder.train_counts, folder.label_names
    most, fewest = max(counts), min(counts)
    largest, smallest = shown(names[counts.index(most)]), shown(names[counts.index(fewest)])
    own = (
        ""
        if folder.own_validation is not None and folder.own_test is not None
        else ", parts held out included"
    )
    spread = f"{fewest:,}" if most == fewest else f"{fewest:,} to {most:,}"
    yield f"Pictures a class in training{own}: {spread}."
    if most >= _IMBALANCED * fewest:
        yield (
            f"Imbalanced: {largest!r} has {most:,} pictures, {smallest!r} {fewest:,}. Judge by "
            "mean_class_acc (kdcam evaluate), which counts each class alike; collect more of the small ones."
        )
    if fewest * _MOST_HELD_OUT < 1 and not (
        folder.own_validation is not None and folder.own_test is not None
    ):
        yield f"{smallest!r} has {fewest} pictures only: it may be missing from the parts held out."
    if not sizes.validation or not sizes.test:
        none = " and ".join(
            part for part, size in (("validation", sizes.validation), ("test", sizes.test)) if not size
        )
        yield f"Too few pictures for a {none} part: the scores tell nothing of new pictures; collect more."


def _label_notes(folder: FolderFacts) -> Iterator[str]:
    counts = folder.train_counts
    absent, mean = counts.count(0), sum(counts) / folder.images
    yield (
        f"{mean:.1f} labels a picture; {min(counts):,} to {max(counts):,} pictures a class"
        f"{f', none of {absent} classes' if absent else ''}"
    )


def _line(key: str, value: Any, comment: str = "") -> str:
    """Return ``key = value  # comment``; JSON's texts, numbers, booleans and lists are TOML's as well, but for DEL."""
    assignment = f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
    return f"{assignment:<32}# {comment}" if comment else assignment


__all__ = [
    "Advice",
    "advise",
    "notes",
    "recipe_lines",
]
