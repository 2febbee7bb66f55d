"""Boxes round the connected regions of 8-bit maps, at all 255 levels at once.

A row of pixels above a level falls into runs. Where the map rises from a to b between two neighbours of a row, a run
begins at the levels a to b - 1, and where it falls, some end: so the runs of all levels are read off the differences,
without a mask for each level. Regions are what runs of neighbouring rows that touch make up.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVELS = 255  # a pixel is above level l if it is l + 1 or more: nothing is above 255
_TOGETHER = 8  # maps; more of them leave the processor's cache and are no faster, and 257 would leave 16 bits

Integers = NDArray[np.int64]


class Regions(NamedTuple):
    """The connected regions of maps, ordered by map and level; M of them."""

    maps: Integers  # (M,), which map
    levels: Integers  # (M,), 0 to 254: the region is above it
    boxes: Integers  # (M, 4): x0, y0, x1, y1 in pixels, the last pixel included
    pixels: Integers  # (M,), how many


class _Runs(NamedTuple):
    """Pixels of one row above one level, next to each other; ordered by map, level, row and place."""

    begins: Integers  # keys: see `_key`
    ends: Integers  # keys of the pixel after the last


def regions_of(maps: NDArray[np.uint8], *, diagonal: bool = True) -> Regions:
    """Return the connected regions of pixels above each level, of each map.

    Equal to labelling ``maps > level`` for each level from 0 to 254 with a 3 x 3 structure (``diagonal``: pixels that
    touch at a corner belong together) or a cross.

    Args:
        maps: (N, H, W).
        diagonal: whether corners connect.
    """
    if maps.ndim != 3 or maps.dtype != np.uint8:
        raise ValueError(f"maps of shape {maps.shape} and type {maps.dtype}; wanted (N, H, W) uint8")
    if maps.size == 0:
        return _joined([])
    parts = []
    for first in range(0, len(maps), _TOGETHER):
        found = _regions(maps[first : first + _TOGETHER], diagonal=diagonal)
        parts.append(found._replace(maps=found.maps + first))
    return _joined(parts)


def hole_regions(maps: NDArray[np.uint8]) -> Regions:
    """Return the borders of the holes in the regions of `regions_of`, at each level.

    A hole is a region of pixels at or below the level, connected by their sides, that touches no border of the map.
    Its box is one pixel larger on each side, since its border is of the pixels round it; ``pixels`` counts the hole's
    own.
    """
    # v <= l is the same as 255 - v > 254 - l
    found = regions_of(255 - maps, diagonal=False)
    height, width = maps.shape[1:]
    x0, y0, x1, y1 = found.boxes.T
    inside = (x0 > 0) & (y0 > 0) & (x1 < width - 1) & (y1 < height - 1)
    return Regions(
        found.maps[inside],
        LEVELS - 1 - found.levels[inside],
        found.boxes[inside] + np.array([-1, -1, 1, 1]),
        found.pixels[inside],
    )


def _joined(parts: list[Regions]) -> Regions:
    if not parts:
        none = np.zeros(0, np.int64)
        return Regions(none, none, np.zeros((0, 4), np.int64), none)
    return Regions(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _regions(maps: NDArray[np.uint8], *, diagonal: bool) -> Regions:
    _, height, width = maps.shape
    runs = _runs(maps)
    labels, count = _labels(runs, stride=width + 2, diagonal=diagonal)
    rows, left = np.divmod(runs.begins, width + 2)
    right = runs.ends - rows * (width + 2)
    planes, rows = np.divmod(rows, height + 1)
    first = np.full(count, len(labels), np.int64)
    np.minimum.at(first, labels, np.arange(len(labels)))
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2] = np.stack([left, rows], 1)[first]
    boxes[:, 2:] = 0
    np.minimum.at(boxes[:, 0], labels, left)
    np.maximum.at(boxes[:, 2], labels, right - 1)
    np.maximum.at(boxes[:, 3], labels, rows)
    pixels = np.bincount(labels, weights=right - left, minlength=count).astype(np.int64)
    which, levels = np.divmod(planes[first], LEVELS)
    order = np.argsort(first, kind="stable")
    return Regions(which[order], levels[order], boxes[order], pixels[order])


def _runs(maps: NDArray[np.uint8]) -> _Runs:
    images, height, width = maps.shape
    values = np.zeros((images, height, width + 2), np.int16)
    values[..., 1:-1] = maps
    before, change = values[..., :-1], np.diff(values, axis=2)
    begins = _keys(np.nonzero(change > 0), before, change, height)
    ends = _keys(np.nonzero(change < 0), before + change, -change, height)
    return _Runs(begins, ends)


def _keys(
    places: tuple[NDArray[np.intp], ...], lowest: NDArray[np.int16], count: NDArray[np.int16], height: int
) -> Integers:
    """Return, in order, a number for each level that begins or ends at each place: map, level, row, column.

    Rows are numbered as if there were one more, columns as if there were two more, so that the next row of the last
    one and the next column of the last one are nobody else's.
    """
    which, row, column = places
    repeats = count[places].astype(np.int64)
    number = np.arange(int(repeats.sum())) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    planes = np.repeat(which * LEVELS + lowest[places], repeats) + number
    width = lowest.shape[2] + 1
    keys: Integers = planes * ((height + 1) * width) + np.repeat(row * width + column, repeats)
    # Places come in order, so only the levels are to be sorted: 16 bits, for which numpy's stable sort is a radix sort.
    return keys[np.argsort(planes.astype(np.uint16), kind="stable")]


def _labels(runs: _Runs, *, stride: int, diagonal: bool) -> tuple[Integers, int]:
    """Return the number of the region (R,) that each run belongs to, and how many regions there are."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = len(runs.begins)
    # Of the next row: the runs that end after this one's begin and begin before its end, by a corner or by a side.
    low = np.searchsorted(runs.ends, runs.begins + stride, "left" if diagonal else "right")
    high = np.searchsorted(runs.begins, runs.ends + stride, "right" if diagonal else "left")
    touching = high - low
    this = np.repeat(np.arange(count), touching)
    other = np.arange(len(this)) - np.repeat(np.cumsum(touching) - touching - low, touching)
    graph: Any = coo_matrix((np.ones(len(this), np.int8), (this, other)), shape=(count, count))
    regions, labels = connected_components(graph, directed=False)
    return labels.astype(np.int64), int(regions)


__all__ = ["LEVELS", "Regions", "hole_regions", "regions_of"]
