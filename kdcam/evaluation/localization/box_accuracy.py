"""MaxBoxAcc: the share of maps whose regions' boxes meet the object's, at the best of 255 levels."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVELS = 255  # a pixel is above level l if it is l + 1 or more: nothing is above 255
OVERLAPS = (0.3, 0.5, 0.7)  # intersection over union that counts as a hit: those of MaxBoxAccV2
V1_OVERLAP = 0.5  # that of MaxBoxAcc
_TOGETHER = 8  # maps; more of them leave the processor's cache and are no faster, and 257 would leave 16 bits
_ROUNDING = 1e-6  # pixels
Contours = Literal["regions", "wsol"]
Integers = NDArray[np.int64]
Shares = NDArray[np.float64]


class LevelOverlaps(NamedTuple):
    """How far the boxes of N maps meet the objects' boxes, at each level: intersection over union in [0, 1]."""

    best: Shares  # (N, 255), of the best box of all regions
    largest: Shares  # (N, 255), of the box of the largest region


class BoxAccuracy(NamedTuple):
    """The share of maps that hit at one overlap, at one threshold."""

    overlap: float  # intersection over union from which on it is a hit
    accuracy: float  # in [0, 1]
    threshold: float  # share of a map's maximum, in [0, 1), that its regions lie above


class MaxBoxAcc(NamedTuple):
    """MaxBoxAccV2 and MaxBoxAcc (V1), in [0, 1]."""

    v2: float  # mean of the accuracies at 0.3, 0.5 and 0.7
    v1: float
    best_box: tuple[BoxAccuracy, ...]  # at each of `OVERLAPS`
    largest_region: BoxAccuracy  # V1's, at 0.5


class Regions(NamedTuple):
    """The connected regions of maps, ordered by map and level; M of them."""

    maps: Integers  # (M,), which map
    levels: Integers  # (M,), 0 to 254: the region is above it
    boxes: Integers  # (M, 4): x0, y0, x1, y1 in pixels, the last pixel included
    pixels: Integers  # (M,), how many


class _Runs(NamedTuple):
    """Pixels of one row above one level, next to each other; ordered by map, level, row and column."""

    begins: Integers  # keys: see `_key`
    ends: Integers  # keys of the pixel after the last


class BoxTally:
    """Counts of hits at each level, from which `MaxBoxAcc` follows; batches of maps are added one by one."""

    def __init__(self) -> None:
        self.maps = 0
        self.hits = np.zeros((len(OVERLAPS), LEVELS), np.int64)
        self.largest_hits = np.zeros(LEVELS, np.int64)

    def add(self, overlaps: LevelOverlaps) -> None:
        """Count maps."""
        self.maps += len(overlaps.best)
        self.hits += np.stack([(overlaps.best >= wanted).sum(0) for wanted in OVERLAPS])
        self.largest_hits += (overlaps.largest >= V1_OVERLAP).sum(0)

    def best_levels(self) -> tuple[int, ...]:
        """Return the levels with most hits: of the best box at each of `OVERLAPS`, then of the largest region.

        Of several equally good ones the lowest.
        """
        return tuple(int(row.argmax()) for row in (*self.hits, self.largest_hits))

    def accuracies(self, levels: Sequence[int] | None = None) -> MaxBoxAcc:
        """Return the accuracies at these levels, in the order of `best_levels`; none: at its own best ones.

        Raises ``ValueError`` when nothing was added.
        """
        if self.maps == 0:
            raise ValueError("no map was added")
        *of_best, of_largest = levels or self.best_levels()
        best_box = tuple(
            BoxAccuracy(wanted, int(row[level]) / self.maps, level / LEVELS)
            for wanted, row, level in zip(OVERLAPS, self.hits, of_best, strict=True)
        )
        v1 = int(self.largest_hits[of_largest]) / self.maps
        return MaxBoxAcc(
            sum(one.accuracy for one in best_box) / len(best_box),
            v1,
            best_box,
            BoxAccuracy(V1_OVERLAP, v1, of_largest / LEVELS),
        )


def level_overlaps(
    maps: NDArray[np.uint8], boxes: Shares, *, contours: Contours = "regions"
) -> LevelOverlaps:
    """Return how far the boxes of maps meet the objects' boxes, at each level from 0 to 254.

    Regions are of pixels strictly above the level, connected also by corners. A map of zeros has none and meets
    nothing (published code gives it the pixel at the upper left). That is what thresholds from 0 to 0.999 in steps of
    0.001 of the maximum come to for maps of whole numbers up to 255: many thresholds are one level.

    Args:
        maps: (N, H, W), each from 0 to 255, or zeros.
        boxes: (N, B, 4) x0, y0, x1, y1 in whole pixels of the maps, the last pixel included; nan where an image has
            fewer than B.
        contours: "regions": a box a region, holes in it are not looked at. "wsol": as clovaai/wsolevaluation
            (evaluation.py, commit 0c476cd) does with OpenCV: the borders of holes count as boxes, too, and a box
            ends one pixel further right and below, unless the map ends there. In both the largest region is that
            of most pixels. There the two differ: OpenCV's is that whose outline encloses the largest area, holes
            included, so a ring may be larger than a disc of more pixels.

    Source: Evaluating Weakly Supervised Object Localization Methods Right (Choe et al. 2020, arXiv 2001.07437); V2
    in its journal version (arXiv 2007.04178).
    """
    found = regions_of(maps)
    overlaps = _best_overlaps(_ends(found, maps, contours), boxes)
    best = np.zeros((len(maps), LEVELS))
    np.maximum.at(best, (found.maps, found.levels), overlaps)
    if contours == "wsol":
        holes = hole_regions(maps)
        np.maximum.at(best, (holes.maps, holes.levels), _best_overlaps(_ends(holes, maps, contours), boxes))
    first = _largest_of_each(found)
    largest = np.zeros((len(maps), LEVELS))
    largest[found.maps[first], found.levels[first]] = overlaps[first]
    return LevelOverlaps(best, largest)


def largest_box(map_: NDArray[np.uint8], level: int) -> tuple[int, int, int, int]:
    """Return the box of a map's (H, W) largest region above a level, the last pixel included; zeros: there is none."""
    found = regions_of(map_[None])
    there = np.flatnonzero(found.levels == level)
    if len(there) == 0:
        return (0, 0, 0, 0)
    x0, y0, x1, y1 = found.boxes[there[found.pixels[there].argmax()]].tolist()
    return (x0, y0, x1, y1)


def intersection_over_union(one: NDArray[np.float64], other: NDArray[np.float64]) -> Shares:
    """Return the intersection over union of boxes (..., 4) whose last pixels are included; nan where either is nan."""
    low, high = np.maximum(one[..., :2], other[..., :2]), np.minimum(one[..., 2:], other[..., 2:])
    common = np.maximum(high - low + 1, 0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2] + 1).prod(-1) for box in (one, other)]
    shares: Shares = common / (areas[0] + areas[1] - common)
    return shares


def _ends(found: Regions, maps: NDArray[np.uint8], contours: Contours) -> Regions:
    if contours == "regions":
        return found
    boxes = found.boxes.copy()
    last = np.array(maps.shape[:0:-1]) - 1  # width, height
    boxes[:, 2:] = np.minimum(boxes[:, 2:] + 1, last)
    return found._replace(boxes=boxes)


def _best_overlaps(found: Regions, boxes: Shares) -> Shares:
    """Return (M,) how far each region's box meets the best of its map's object boxes."""
    overlaps = np.zeros(len(found.maps))
    for column in range(boxes.shape[1]):  # few: one box an image is usual
        shares = intersection_over_union(found.boxes.astype(np.float64), boxes[found.maps, column])
        overlaps = np.fmax(overlaps, shares)
    return overlaps


def _largest_of_each(found: Regions) -> NDArray[np.int64]:
    """Return which region is the largest of each map and level; the first in reading order of equal ones."""
    group = found.maps * LEVELS + found.levels
    order = np.lexsort((-found.pixels, group))
    begins = np.diff(group[order], prepend=-1) > 0
    return order[begins]


# Which boxes are measured: docs/decisions/021.
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


# A row of pixels above a level falls into runs. Where the map rises from a to b between two neighbours of a row, a run
# begins at the levels a to b - 1, and where it falls, some end: so the runs of all levels are read off the differences,
# without a mask for each level. Regions are what runs of neighbouring rows that touch make up.
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
    positions: tuple[NDArray[np.intp], ...], lowest: NDArray[np.int16], count: NDArray[np.int16], height: int
) -> Integers:
    """Return, in order, a number for each level that begins or ends at each position: map, level, row, column.

    Rows are numbered as if there were one more, columns as if there were two more, so that the next row of the last
    one and the next column of the last one are nobody else's.
    """
    which, row, column = positions
    repeats = count[positions].astype(np.int64)
    number = np.arange(int(repeats.sum())) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    planes = np.repeat(which * LEVELS + lowest[positions], repeats) + number
    width = lowest.shape[2] + 1
    keys: Integers = planes * ((height + 1) * width) + np.repeat(row * width + column, repeats)
    # Positions come in order, so only levels are to be sorted: 16 bits, for which numpy's stable sort is a radix sort.
    return keys[np.argsort(planes.astype(np.uint16), kind="stable")]


def _labels(runs: _Runs, *, stride: int, diagonal: bool) -> tuple[Integers, int]:
    """Return the number of the region (R,) that each run belongs to, and how many regions there are."""
    from scipy.sparse import coo_matrix  # slow to import: settings are read without it
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


def whole_pixels(boxes: NDArray[np.float64], image_size: int, resolution: int) -> NDArray[np.float64]:
    """Return boxes with exclusive ends, in pixels of the image, as whole pixels of a map, the last one included.

    Corners are cut down to whole pixels; a box keeps one pixel at least.

    Args:
        boxes: (N, B, 4), nan where there is none.
        image_size: side of the image, in pixels.
        resolution: side of the map.
    """
    scaled = _cut_down(boxes * resolution / image_size)
    begins = np.minimum(scaled[..., :2], resolution - 1)
    return np.concatenate([begins, np.maximum(scaled[..., 2:] - 1, begins)], axis=-1)


def truncated_pixels(
    boxes: NDArray[np.float64], pixels: NDArray[np.float64], image_size: int, resolution: int
) -> NDArray[np.float64]:
    """Return boxes as `whole_pixels` does, but by the rule of clovaai/wsolevaluation.

    There the last pixel inside is scaled and cut down, not the first one outside: the same where a picture has the
    map's resolution, a pixel less where it is smaller, and sometimes a pixel more where it is larger.

    Args:
        boxes: as those of `whole_pixels`.
        pixels: (N, B, 2), of a pixel that a box was given in; see `kdcam.data.object_boxes.ObjectBoxes`.
        image_size: side of the image, in pixels.
        resolution: side of the map.

    Source: resize_bbox in evaluation.py, commit 0c476cd.
    """
    last = boxes[..., 2:] - pixels
    scaled = _cut_down(np.concatenate([boxes[..., :2], last], axis=-1) * resolution / image_size)
    begins = np.minimum(scaled[..., :2], resolution - 1)
    return np.concatenate([begins, np.maximum(scaled[..., 2:], begins)], axis=-1)


def _cut_down(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # Whole pixels that went through other scales come back with rounding errors, on either side.
    return np.asarray(np.floor(values + _ROUNDING))


__all__ = [
    "LEVELS",
    "OVERLAPS",
    "V1_OVERLAP",
    "BoxAccuracy",
    "BoxTally",
    "Contours",
    "LevelOverlaps",
    "MaxBoxAcc",
    "Regions",
    "hole_regions",
    "intersection_over_union",
    "largest_box",
    "level_overlaps",
    "regions_of",
    "truncated_pixels",
    "whole_pixels",
]
