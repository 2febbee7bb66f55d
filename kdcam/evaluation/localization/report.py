"""What is said of a run's localization, and the form it takes in localization.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdcam.evaluation.localization.box_accuracy import MaxBoxAcc

CONTOUR_RULES = {
    "regions": "a box round each region of pixels above the threshold, connected also by corners; holes in regions "
    "are not looked at (OpenCV's tree mode, and figures published with it, count their borders as boxes, too)",
    "wsol": "as clovaai/wsolevaluation with OpenCV's tree mode: a box round each region and round each hole, which "
    "ends one pixel further right and below, and objects' boxes whose last pixel is scaled and cut down; but the "
    "largest region (V1) is that of most pixels, not of the largest outline, and of pictures that are not square the "
    "middle square is seen, where there they are squashed",
}

_LEFT_OUT = {
    "without_box": "images without a box",
    "cut_away": "images whose objects lie outside the middle square",
    "other_class": "boxes of another class than their image",
    "elsewhere": "boxes of other pictures",
    "flat_maps": "flat maps, which miss",
}


@dataclass(frozen=True)
class ExcludedCounts:
    """What the numbers do not cover."""

    without_box: int  # images that have none
    cut_away: int  # images whose middle square shows none of their boxes
    other_class: int  # boxes of another class than their image
    elsewhere: int  # boxes of pictures that are not in the part


@dataclass(frozen=True)
class EvaluatedBoxes:
    """Which images and boxes were asked about."""

    images: int
    boxes: int  # of one image two of two classes are two
    sha256: str  # of the images with their classes and boxes: `evaluated.evaluated_digest`


@dataclass(frozen=True)
class LocalizationReport:
    """How well maps find the objects; all shares in [0, 1]."""

    images: int
    maps: int  # one for each pair of an image and a class whose object has a box; of no class or the predicted one,
    #            one an image
    max_box: MaxBoxAcc
    pointing: float  # share of the maps whose highest place lies in a box
    energy: float  # mean share of a map's positive part that lies in a box
    flat_maps: int  # constant or not finite: a miss in everything
    map: str  # "gradcam" also where "cam" was asked of a network without an exact CAM
    map_of: str
    resolution: int  # side in pixels of the maps whose boxes are measured
    contours: str
    threshold_rule: str  # in words: where the thresholds come from
    left_out: ExcludedCounts
    evaluated: EvaluatedBoxes

    def headline(self) -> dict[str, float]:
        """Return the single numbers, for tables."""
        return {
            "max_box_acc_v2": self.max_box.v2,
            "max_box_acc_v1": self.max_box.v1,
            "pointing": self.pointing,
            "energy": self.energy,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the details in a form that JSON takes."""
        values = asdict(self)
        del values["max_box"]
        return values | {
            "contour_rule": CONTOUR_RULES[self.contours],
            "best_box": [one._asdict() for one in self.max_box.best_box],
            "largest_region": self.max_box.largest_region._asdict(),
        }


@dataclass(frozen=True)
class RunLocalization:
    """One run's report."""

    run: Path
    model: str  # digest of the weights
    weights: str
    settings: dict[str, Any]
    report: LocalizationReport

    def to_json(self) -> dict[str, Any]:
        """Return everything in the form of localization.json."""
        return {
            "headline": self.report.headline(),
            "settings": self.settings,
            "model": self.model,
            "weights": self.weights,
            **self.report.to_json(),
        }


def left_out_text(left_out: Mapping[str, int], flat_maps: int) -> str:
    """Return in words what the numbers do not cover, and how many maps show no place; empty: nothing of it."""
    counts = {**left_out, "flat_maps": flat_maps}
    return "; ".join(f"{counts[key]:,} {words}" for key, words in _LEFT_OUT.items() if counts[key])


__all__ = [
    "CONTOUR_RULES",
    "EvaluatedBoxes",
    "ExcludedCounts",
    "LocalizationReport",
    "RunLocalization",
    "left_out_text",
]
