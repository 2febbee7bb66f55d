"""A picture of localization: images under their maps, with the objects' boxes and those found."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from kdcam.cam.map_pictures import RgbImage, captioned, grid, magnified, overlay, to_picture
from kdcam.cam.maps import minmax_normalize
from kdcam.evaluation.localization.box_accuracy import intersection_over_union, largest_box
from kdcam.evaluation.localization.level_boxes import LEVELS
from kdcam.evaluation.localization.localization_measurement import LocatedMaps, objects_of
from kdcam.evaluation.localization.pointing_game import byte_maps
from kdcam.evaluation.localization.prepared_runs import PreparedRun
from kdcam.evaluation.localization.report import LocalizationReport

_LEAST_PIXELS = 160  # of a picture's side
_LINE = 2  # pixels
# Okabe and Ito 2008: told apart with any common colour vision, and both from the colours of the map
_OBJECT, _FOUND = (0.34, 0.71, 0.91), (0.0, 0.62, 0.45)


class BoxOutline(NamedTuple):
    """A box to draw."""

    edges: tuple[float, float, float, float]  # x0, y0, x1, y1 as shares of the side, end exclusive
    colour: tuple[float, float, float]


def localization_picture(runs: Sequence[tuple[PreparedRun, LocalizationReport, LocatedMaps]]) -> RgbImage:
    """Return a row of a few images for each run: the map, the objects' boxes (blue) and the box found (green).

    The box found is that of the largest region at the threshold of MaxBoxAcc (V1), with its intersection over union.

    Args:
        runs: each with the first of its maps.
    """
    rows = []
    for opened, report, located in runs:
        level = round(report.max_box.largest_region.threshold * LEVELS)
        rows.append([_image(opened, located, place, level) for place in range(len(located.maps))])
    return grid(rows, gap=4)


def with_outlines(picture: RgbImage, outlines: Sequence[BoxOutline]) -> RgbImage:
    """Return a picture (3, S, S) with boxes drawn over it."""
    drawn, side = picture.copy(), picture.shape[-1]
    for edges, colour in outlines:
        x0, y0, x1, y1 = (min(max(round(value * side), 0), side) for value in edges)
        frame = np.zeros((side, side), bool)
        frame[y0:y1, x0:x1] = True
        frame[y0 + _LINE : y1 - _LINE, x0 + _LINE : x1 - _LINE] = False
        drawn[:, frame] = np.array(colour, np.float32)[:, None]
    return drawn


def _image(opened: PreparedRun, located: LocatedMaps, place: int, level: int) -> RgbImage:
    size, resolution = located.images.shape[-1], opened.look.resolution
    map_ = byte_maps(located.maps[place : place + 1], resolution).cpu().numpy()[0]
    found = np.array(largest_box(map_, level), np.float64)
    there = located.boxes[place].isfinite().all(1).numpy()
    objects = located.boxes[place].numpy()[there]
    overlap = float(intersection_over_union(found, objects_of(located, opened.look)[place][there]).max())
    base = magnified(to_picture(located.images[place].cpu()), least=_LEAST_PIXELS)
    outlines = [BoxOutline(_shares(box / size), _OBJECT) for box in objects]
    outlines.append(BoxOutline(_shares((found + np.array([0, 0, 1, 1])) / resolution), _FOUND))
    shown = overlay(base, minmax_normalize(torch.nan_to_num(located.maps[place].cpu())))
    number = int(opened.evaluated.boxes.classes[place])
    name = opened.classifier.class_names[number] if number >= 0 else "several classes"
    lines = (opened.path.absolute().name, f"{name}: IoU {overlap:.0%}")
    return captioned(with_outlines(shown, outlines), lines)


def _shares(box: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = box.tolist()
    return (x0, y0, x1, y1)


__all__ = ["BoxOutline", "localization_picture", "with_outlines"]
