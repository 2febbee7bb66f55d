"""What is asked of an evaluation of localization, and what it found of one run, as localization.json has it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from kdcam.data.sources.part_names import PartName
from kdcam.evaluation.localization.box_accuracy import Contours, MaxBoxAcc
from kdcam.settings.validation import Settings, key_and_flag, settings_error

MapKind = Literal["cam", "caam", "gradcam", "hirescam"]

CONTOUR_RULES = {
    "regions": "a box round each region of pixels above the threshold, connected also by corners; holes in regions "
    "are not looked at (OpenCV's tree mode, and figures published with it, count their borders as boxes, too)",
    "wsol": "as clovaai/wsolevaluation with OpenCV's tree mode: a box round each region and round each hole, which "
    "ends one pixel further right and below, and objects' boxes whose last pixel is scaled and cut down; but the "
    "largest region (V1) is that of most pixels, not of the largest outline, and of pictures that are not square the "
    "middle square is seen, where there they are squashed",
}

_PICTURE_RESOLUTION = 224  # that of the published figures
_LEFT_OUT = {
    "without_box": "images without a box",
    "cut_away": "images whose objects lie outside the middle square",
    "other_class": "boxes of another class than their image",
    "elsewhere": "boxes of other pictures",
    "flat_maps": "flat maps, which miss",
}


class LocalizationSettings(Settings):
    """Which maps are held against which boxes."""

    map: MapKind = Field(
        "cam", description="cam becomes gradcam for a network without an exact class activation map"
    )
    map_of: Literal["label", "predicted"] = Field(
        "label", description="whose map: that of the label, or of the class that the network says"
    )
    boxes: Path | None = Field(
        None, description="a CSV file, or Tiny-ImageNet's file or folder; none: the data's own boxes"
    )
    root: Path | None = Field(
        None,
        description="evaluate the pictures that the boxes name, below this folder; none: those of the run's part",
    )
    box_ends: Literal["exclusive", "inclusive"] | None = Field(
        None,
        description="of a CSV file: x1 and y1 are the first pixel outside (exclusive) or the last inside; none: "
        "exclusive",
    )
    class_column: str | None = Field(
        None,
        min_length=1,
        description="of a CSV file: the column of the class; none: class, where there is one",
    )
    part: PartName | None = Field(
        None,
        description="of the run's data; none: test. Of train with label noise the labels before it count",
    )
    n_examples: int | None = Field(
        None, ge=1, description="images, the first ones or some of all classes; none: all that have a box"
    )
    resolution: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="side in pixels that maps are brought to; none: 224 for pictures, the image's own for drawn images",
    )
    contours: Contours = Field(
        "regions",
        description="wsol: boxes as in clovaai/wsolevaluation, for MaxBoxAccV2 figures published with it; its V1 takes "
        "the largest outline, here it is the region of most pixels",
    )
    threshold_from: Literal["evaluated", "validation"] = Field(
        "evaluated", description="the images on which the best threshold is found"
    )

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        if self.map == "caam" and self.map_of == "predicted":
            raise ValueError(
                f"{key_and_flag('map_of')} = predicted does nothing with {key_and_flag('map')} = caam, which is "
                "of no class; remove it"
            )
        if self.boxes is None:
            for key in ("root", "box_ends", "class_column"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key_and_flag(key)} says how boxes of a file are read; name the file with "
                        f"{key_and_flag('boxes')}"
                    )
        if self.root is not None and self.part is not None:
            raise ValueError(
                f"{key_and_flag('part')} = {self.part} and {key_and_flag('root')} = {self.root} name different "
                "images; remove part to evaluate the pictures below root, or root to evaluate the run's part"
            )
        if self.threshold_from == "validation" and (self.root is not None or self.part == "validation"):
            raise ValueError(
                f"{key_and_flag('threshold_from')} = validation needs another part of the run's data to be "
                "evaluated; remove it, or "
                f"{key_and_flag('root') if self.root is not None else key_and_flag('part') + ' = validation'}"
            )
        return self

    def resolution_for(self, *, image_size: int, drawn: bool) -> int:
        """Return the side in pixels that maps are brought to.

        Args:
            image_size: side of the images.
            drawn: whether they are drawn in memory rather than read from picture files.
        """
        return self.resolution or (image_size if drawn else _PICTURE_RESOLUTION)


def localization_settings(values: Mapping[str, Any]) -> LocalizationSettings:
    """Return the settings of keys and values; ``RecipeError`` that names every wrong key."""
    try:
        return LocalizationSettings.model_validate(values)
    except ValidationError as error:
        raise settings_error(error, LocalizationSettings, command="localize") from None


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
    sha256: str  # of the images with their classes and boxes: `prepared_runs.evaluated_digest`


@dataclass(frozen=True)
class LocalizationReport:
    """How well maps find the objects; all shares in [0, 1]."""

    images: int
    maps: int  # one for each pair of an image and a class whose object has a box; of no class or the predicted one,
    #            one an image
    max_box: MaxBoxAcc
    pointing: float  # share of the maps whose highest position lies in a box
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
    """Return in words what the numbers do not cover, and how many maps show no location; empty: nothing of it."""
    counts = {**left_out, "flat_maps": flat_maps}
    return "; ".join(f"{counts[key]:,} {words}" for key, words in _LEFT_OUT.items() if counts[key])


__all__ = [
    "CONTOUR_RULES",
    "EvaluatedBoxes",
    "ExcludedCounts",
    "LocalizationReport",
    "LocalizationSettings",
    "MapKind",
    "RunLocalization",
    "left_out_text",
    "localization_settings",
]
