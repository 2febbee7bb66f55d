"""What is asked of an evaluation of localization."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from kdcam.settings.frozen_settings import Settings
from kdcam.settings.setting_names import key_and_flag, settings_error

MapKind = Literal["cam", "caam", "gradcam", "hirescam"]
PartName = Literal["train", "validation", "test"]

_PICTURE_RESOLUTION = 224  # that of the published figures


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
    contours: Literal["regions", "wsol"] = Field(
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
                "of no class; remove "
                "it"
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
                "images; remove "
                "part to evaluate the pictures below root, or root to evaluate the run's part"
            )
        if self.threshold_from == "validation" and (self.root is not None or self.part == "validation"):
            raise ValueError(
                f"{key_and_flag('threshold_from')} = validation needs another part of the run's data to be "
                "evaluated; remove "
                f"it, or {key_and_flag('root') if self.root is not None else key_and_flag('part') + ' = validation'}"
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


__all__ = ["LocalizationSettings", "MapKind", "PartName", "localization_settings"]
