"""Digit scenes: real handwritten digits on cluttered canvases, with the boxes of those that give the labels.

A scene is drawn in this order: smooth clutter, bright strokes, halves of other digits, then the labelled
digits, each laid over what is there. Training, validation and test scenes are made of disjoint source digits.
With a class split the halves in all scenes are of its base digits (of the digits of its part), so that who trains on
these sees nothing of the others; the scenes are then others than without a split.

A digit is enlarged (bicubic, a = -0.5) and put in its place by two small matrix products; canvases are (N, S, S) float.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.dataset_parts import Part, SourceParts
from kdcam.data.source_configs import DigitScenesConfig
from kdcam.data.sources.digits import DIGIT_NAMES, TRAIN_DIGITS, read_digits
from kdcam.data.splits.class_split import classes_of
from kdcam.data.splits.held_out import stratified_split
from kdcam.errors import DataError
from kdcam.runtime.progress import Progress
from kdcam.runtime.seeding import seeded_generator

DIGIT_SIDE = (14 / 48, 26 / 48)  # least and greatest side of a digit, in canvas sides
STROKES = (4, 7)  # fewest and most on a canvas
STROKE_INK = (0.4, 0.95)  # brightness
CLUTTER_GRIDS = ((4, 0.3), (10, 0.15))  # cells a side of smooth noise, its greatest brightness
GRAIN = 0.03  # standard deviation of the noise of single pixels
BOX_INK = 0.35  # share of full ink from which a pixel belongs to the box
LAYOUTS = 16  # layouts tried for several digits; the one that overlaps least is taken
CHUNK = 250  # scenes drawn at once, from a generator of their own: a longer part begins like a shorter one
INK = (0.65, 1.0)  # brightness of a digit
HALVES = (2, 3)  # fewest and most half digits on a canvas
MOST_DIGITS = 3  # labelled digits in a multi-label scene
_CLASSES = len(DIGIT_NAMES)
_TRAIN, _VALIDATION, _TEST = 1, 2, 3
_TEST_SEED = 0  # the test scenes are the same whatever the split seed


class Sources(NamedTuple):
    """The digits that scenes may be made of."""

    ink: Tensor  # (M, 8, 8) float in [0, 1]
    by_class: Tensor  # (10, most of a class) int64: positions in ``ink``, repeated where a class has fewer
    halves: Tensor  # (H,) int64: positions in ``ink`` of the digits that halves are taken of


class Scenes(NamedTuple):
    """Drawn scenes, each with up to D labelled digits."""

    pixels: Tensor  # (N, 1, S, S) uint8
    classes: Tensor  # (N, D) int64: the classes of the labelled digits, -1 where there are fewer than D
    boxes: Tensor  # (N, D, 4) float x0, y0, x1, y1 in pixels, end exclusive; nan where there is no digit


class Squares(NamedTuple):
    """Where digits stand; each (N, D), in pixels."""

    left: Tensor
    top: Tensor
    side: Tensor


# What these scenes are good for: docs/decisions/007.
def load_digit_scenes(config: DigitScenesConfig, *, progress: Progress) -> SourceParts:
    """Return the drawn scenes, of all ten digits; ``DataError`` where counts or the class split do not fit."""
    values, targets = read_digits()
    own, test = slice(None, TRAIN_DIGITS), slice(TRAIN_DIGITS, None)
    train_count, held_count = scene_counts(config)
    # enough source digits on both sides for variety, whatever the share of scenes
    share = min(max(config.validation, 0.05), 0.5) if held_count else 0.0
    kept, held = stratified_split(targets[own], num_classes=_CLASSES, share=share, seed=config.split_seed)
    halves_of = [DIGIT_NAMES.index(name) for name in classes_of(config, DIGIT_NAMES)]

    def draw(values: Tensor, targets: Tensor, count: int, seeds: tuple[int, int]) -> Part:
        sources = gather_sources(values, targets, halves_of=halves_of)
        return _draw_part(sources, count, config, seeds, progress)

    seed = config.split_seed
    return SourceParts(
        train=draw(values[kept], targets[kept], train_count, (seed, _TRAIN)),
        validation=draw(values[held], targets[held], held_count, (seed, _VALIDATION)) if held_count else None,
        test=draw(values[test], targets[test], config.test_size, (_TEST_SEED, _TEST)),
        label_names=DIGIT_NAMES,
        channels=1,
    )


def scene_counts(config: DigitScenesConfig) -> tuple[int, int]:
    """Return the number of training and of validation scenes.

    Raises:
        DataError: ``validation`` is above 0 but too small for a single scene, or leaves none for training.
    """
    held = round(config.validation * config.train_size)
    if config.validation > 0 and not 0 < held < config.train_size:
        raise DataError(
            f"data (digit-scenes): validation = {config.validation:g} of train_size = {config.train_size} "
            f"makes {held} validation and {config.train_size - held} training scenes; change "
            'data.validation or data.train_size, or set data.validation = 0 and select = "last"'
        )
    return config.train_size - held, held


def _draw_part(
    sources: Sources, count: int, config: DigitScenesConfig, seeds: tuple[int, int], progress: Progress
) -> Part:
    chunks = []
    for chunk in range(-(-count // CHUNK)):
        generator = seeded_generator(*seeds, chunk)
        labels = torch.rand(CHUNK // _CLASSES, _CLASSES, generator=generator).argsort(1).flatten()
        digits = MOST_DIGITS if config.multi_label else 1
        chunks.append(
            draw_scenes(labels, sources, size=config.image_size, digits=digits, generator=generator)
        )
        progress.advance("drawing scenes", min((chunk + 1) * CHUNK, count), count)
    pixels, classes, boxes = (torch.cat(parts)[:count] for parts in zip(*chunks, strict=True))
    images = ResidentImages(pixels, image_size=config.image_size)
    if not config.multi_label:
        return Part(images, classes[:, 0], boxes[:, 0])
    by_digit = one_hot(classes + 1, _CLASSES + 1)[..., 1:].bool()  # (N, D, K)
    by_class = torch.full((count, _CLASSES, 4), torch.nan)
    row, digit, label = by_digit.nonzero(as_tuple=True)
    by_class[row, label] = boxes[row, digit]
    return Part(images, by_digit.any(1).float(), by_class)


def gather_sources(values: Tensor, targets: Tensor, *, halves_of: Sequence[int] = range(_CLASSES)) -> Sources:
    """Return the sources made of digits ``values`` (M, 8, 8) of 0 to 16 with labels ``targets`` (M,), all ten there.

    Halves are taken of the digits ``halves_of`` alone.
    """
    found = [(targets == k).nonzero().flatten() for k in range(_CLASSES)]
    most = torch.arange(max(len(positions) for positions in found))
    by_class = torch.stack([positions[most % len(positions)] for positions in found])
    halves = torch.isin(targets, torch.tensor(list(halves_of))).nonzero().flatten()
    return Sources(values.float() / 16, by_class, halves)


def draw_scenes(
    labels: Tensor, sources: Sources, *, size: int, digits: int, generator: torch.Generator
) -> Scenes:
    """Return a scene for each label (N,), with 1 to ``digits`` labelled digits of different classes.

    The first labelled digit is of the class asked for; everything else is drawn from ``generator``.
    """
    count = len(labels)
    cover, glow = strokes(count, size=size, generator=generator)
    canvas = clutter(count, size=size, generator=generator) * (1 - cover) + glow
    canvas = _with_halves(canvas, sources, generator)
    classes = (labels[:, None] + _shifts(count, digits, generator)) % _CLASSES
    choice = torch.randint(sources.by_class.shape[1], classes.shape, generator=generator)
    number = torch.randint(1, digits + 1, (count, 1), generator=generator)
    drawn = torch.arange(digits) < number
    ink = sources.ink[sources.by_class[classes, choice]] * drawn[..., None, None]
    whole = on_canvas(ink, squares_apart(count, digits, size=size, generator=generator), size=size)
    canvas = lay_over(canvas, whole, uniform((count, digits), *INK, generator))
    pixels = canvas.clamp_(0, 1).mul_(255).round_().to(torch.uint8)[:, None]
    return Scenes(pixels, classes.masked_fill(~drawn, -1), tight_boxes(whole))


def _shifts(count: int, digits: int, generator: torch.Generator) -> Tensor:
    """Return (count, digits) different numbers 0 to 9 a row, the first one 0."""
    others = torch.rand(count, _CLASSES - 1, generator=generator).argsort(1) + 1
    return torch.cat([torch.zeros(count, 1, dtype=torch.int64), others[:, : digits - 1]], 1)


def _with_halves(canvas: Tensor, sources: Sources, generator: torch.Generator) -> Tensor:
    """Return the canvas (N, S, S) with upper, lower, left or right halves of random digits laid over it."""
    fewest, most = HALVES
    shape, size = (len(canvas), most), canvas.shape[-1]
    upper = (torch.arange(8) < 4)[:, None].expand(8, 8)
    kept = torch.stack([upper, ~upper, upper.T, ~upper.T])[torch.randint(4, shape, generator=generator)]
    number = torch.randint(fewest, most + 1, (len(canvas), 1), generator=generator)
    drawn = (torch.arange(most) < number)[..., None, None]
    choice = torch.randint(len(sources.halves), shape, generator=generator)
    ink = sources.ink[sources.halves[choice]] * kept * drawn
    squares = random_squares(*shape, size=size, generator=generator)
    return lay_over(canvas, on_canvas(ink, squares, size=size), uniform(shape, *INK, generator))


def random_squares(count: int, digits: int, *, size: int, generator: torch.Generator) -> Squares:
    """Return squares (count, digits) of random side that lie whole on the canvas, wherever."""
    side = uniform((count, digits), DIGIT_SIDE[0] * size, DIGIT_SIDE[1] * size, generator)
    corner = torch.rand(2, count, digits, generator=generator) * (size - side)
    return Squares(corner[0], corner[1], side)


def squares_apart(count: int, digits: int, *, size: int, generator: torch.Generator) -> Squares:
    """Return, of ``LAYOUTS`` random layouts for each scene, the one whose squares overlap least."""
    if digits == 1:
        return random_squares(count, 1, size=size, generator=generator)
    tried = random_squares(count * LAYOUTS, digits, size=size, generator=generator)
    first, second = torch.triu_indices(digits, digits, offset=1)
    shared = []
    for begin in (tried.left, tried.top):
        end = begin + tried.side
        inner = torch.minimum(end[:, first], end[:, second]) - torch.maximum(
            begin[:, first], begin[:, second]
        )
        shared.append(inner.clamp(min=0))
    overlap = (shared[0] * shared[1]).sum(1).view(count, LAYOUTS)
    best = overlap.argmin(1) + torch.arange(count) * LAYOUTS
    return Squares(*(values[best] for values in tried))


def on_canvas(ink: Tensor, squares: Squares, *, size: int) -> Tensor:
    """Return how far digits ``ink`` (N, D, 8, 8), enlarged and in place, cover the canvas: (N, D, S, S), 0 to 1."""
    rows = enlarging(squares.top, squares.side, size=size, cells=ink.shape[-1])
    columns = enlarging(squares.left, squares.side, size=size, cells=ink.shape[-1])
    return (rows @ ink @ columns.transpose(-1, -2)).clamp_(0, 1)


def enlarging(begin: Tensor, side: Tensor, *, size: int, cells: int) -> Tensor:
    """Return weights (..., size, cells) that spread ``cells`` values over ``side`` of the pixels from ``begin`` on."""
    pixel = torch.arange(size) + 0.5
    position = (pixel - begin[..., None]) * (cells / side[..., None]) - 0.5
    return _cubic(position[..., None] - torch.arange(cells))


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' kernel (a = -0.5) at ``distance``."""
    d = distance.abs()
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, torch.zeros(())))


def clutter(count: int, *, size: int, generator: torch.Generator) -> Tensor:
    """Return canvases (N, size, size) of smooth noise at two scales with a little grain."""
    canvas = torch.randn(count, size, size, generator=generator).mul_(GRAIN)
    for cells, brightness in CLUTTER_GRIDS:
        grid = torch.rand(count, cells + 2, cells + 2, generator=generator)
        # a cell beyond the canvas on every side, so that its edges are no darker than its middle
        begin, side = torch.tensor(-size / cells), torch.tensor(size * (1 + 2 / cells))
        spread = enlarging(begin, side, size=size, cells=cells + 2)
        canvas += brightness * (spread @ grid @ spread.T)
    return canvas


def strokes(count: int, *, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return cover and brightness (N, size, size) of straight bright strokes; the brightest where they cross."""
    fewest, most = STROKES
    centre = uniform((2, count, most, 1), 0, size, generator)
    angle = uniform((count, most, 1), 0, math.pi, generator)
    half_length = uniform((count, most), 0.06 * size, 0.18 * size, generator)[..., None, None]
    half_width = uniform((count, most), 0.3, 1.1, generator)[..., None, None] * (size / 48)
    number = torch.randint(fewest, most + 1, (count, 1), generator=generator)
    ink = uniform((count, most), *STROKE_INK, generator)[..., None, None]
    pixel = torch.arange(size) + 0.5
    dx, dy = pixel - centre[0], pixel - centre[1]  # (N, most, size)
    cos, sin = angle.cos(), angle.sin()
    along = (dx * cos)[..., None, :] + (dy * sin)[..., :, None]  # (N, most, y, x)
    across = (dy * cos)[..., :, None] - (dx * sin)[..., None, :]
    beyond = along.abs_().sub_(half_length).clamp_(min=0)
    distance = beyond.square_().add_(across.square_()).sqrt_()
    cover = distance.neg_().add_(half_width + 0.5).clamp_(0, 1)  # a soft edge, one pixel wide
    cover *= (torch.arange(most) < number)[..., None, None]
    return cover.amax(1), (cover * ink).amax(1)


def lay_over(canvas: Tensor, cover: Tensor, ink: Tensor) -> Tensor:
    """Return the canvas (N, S, S) with layers of ``cover`` (N, D, S, S) and brightness ``ink`` (N, D) over it."""
    for layer in range(cover.shape[1]):
        canvas = torch.lerp(canvas, ink[:, layer, None, None].expand_as(canvas), cover[:, layer])
    return canvas


def tight_boxes(cover: Tensor) -> Tensor:
    """Return the box x0, y0, x1, y1 (..., 4), end exclusive, of the inked pixels of ``cover`` (..., S, S), or nan."""
    inked = cover >= BOX_INK
    size = cover.shape[-1]
    by_x, by_y = inked.any(-2).int(), inked.any(-1).int()
    begins = [line.argmax(-1) for line in (by_x, by_y)]
    ends = [size - line.flip(-1).argmax(-1) for line in (by_x, by_y)]
    boxes = torch.stack([*begins, *ends], -1).float()
    return boxes.masked_fill(~inked.flatten(-2).any(-1)[..., None], torch.nan)


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Return random numbers between ``low`` and ``high``."""
    return low + (high - low) * torch.rand(shape, generator=generator)


__all__ = [
    "BOX_INK",
    "DIGIT_SIDE",
    "Scenes",
    "Sources",
    "Squares",
    "clutter",
    "draw_scenes",
    "enlarging",
    "gather_sources",
    "lay_over",
    "load_digit_scenes",
    "on_canvas",
    "random_squares",
    "scene_counts",
    "squares_apart",
    "strokes",
    "tight_boxes",
    "uniform",
]
