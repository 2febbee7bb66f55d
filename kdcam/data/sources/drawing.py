"""The strokes, the clutter and the enlarged digits that digit scenes are drawn with, many scenes at once.

Canvases are (N, S, S) float; nothing here knows of labels. A digit is enlarged (bicubic, a = -0.5) and put in
its place by two small matrix products.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

DIGIT_SIDE = (14 / 48, 26 / 48)  # least and greatest side of a digit, in canvas sides
STROKES = (4, 7)  # fewest and most on a canvas
STROKE_INK = (0.4, 0.95)  # brightness
CLUTTER_GRIDS = ((4, 0.3), (10, 0.15))  # cells a side of smooth noise, its greatest brightness
GRAIN = 0.03  # standard deviation of the noise of single pixels
BOX_INK = 0.35  # share of full ink from which a pixel belongs to the box
LAYOUTS = 16  # places tried for several digits; the one that overlaps least is taken


class Squares(NamedTuple):
    """Where digits stand; each (N, D), in pixels."""

    left: Tensor
    top: Tensor
    side: Tensor


def uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    """Return random numbers between ``low`` and ``high``."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' kernel (a = -0.5) at ``distance``."""
    d = distance.abs()
    near = (1.5 * d - 2.5) * d * d + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, torch.zeros(())))


def enlarging(begin: Tensor, side: Tensor, *, size: int, cells: int) -> Tensor:
    """Return weights (..., size, cells) that spread ``cells`` values over ``side`` of ``size`` pixels from
    ``begin``."""
    pixel = torch.arange(size) + 0.5
    place = (pixel - begin[..., None]) * (cells / side[..., None]) - 0.5
    return _cubic(place[..., None] - torch.arange(cells))


def on_canvas(ink: Tensor, squares: Squares, *, size: int) -> Tensor:
    """Return digits ``ink`` (N, D, 8, 8) enlarged and in place: how far each covers (N, D, size, size), in
    [0, 1]."""
    rows = enlarging(squares.top, squares.side, size=size, cells=ink.shape[-1])
    columns = enlarging(squares.left, squares.side, size=size, cells=ink.shape[-1])
    return (rows @ ink @ columns.transpose(-1, -2)).clamp_(0, 1)


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
    """Return cover and brightness (N, size, size) of straight bright strokes; the brightest where they
    cross."""
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
    """Return the canvas (N, S, S) with layers of ``cover`` (N, D, S, S) and brightness ``ink`` (N, D) laid
    over it."""
    for layer in range(cover.shape[1]):
        canvas = torch.lerp(canvas, ink[:, layer, None, None].expand_as(canvas), cover[:, layer])
    return canvas


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


def tight_boxes(cover: Tensor) -> Tensor:
    """Return the box x0, y0, x1, y1 (..., 4), end exclusive, of the pixels of ``cover`` (..., S, S) with
    enough ink; nan where there is none."""
    inked = cover >= BOX_INK
    size = cover.shape[-1]
    by_x, by_y = inked.any(-2).int(), inked.any(-1).int()
    begins = [line.argmax(-1) for line in (by_x, by_y)]
    ends = [size - line.flip(-1).argmax(-1) for line in (by_x, by_y)]
    boxes = torch.stack([*begins, *ends], -1).float()
    return boxes.masked_fill(~inked.flatten(-2).any(-1)[..., None], torch.nan)


__all__ = [
    "BOX_INK",
    "DIGIT_SIDE",
    "Squares",
    "clutter",
    "enlarging",
    "lay_over",
    "on_canvas",
    "random_squares",
    "squares_apart",
    "strokes",
    "tight_boxes",
    "uniform",
]
