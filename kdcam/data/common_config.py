"""The settings that data sources have in common; no torch is imported here."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from kdcam.settings import Settings

RESIDENT_LIMIT = 64  # pixels a side; larger pictures are decoded batch by batch

BatchAugment = Literal["crop", "flip", "cutout"]
ImageAugment = Literal["crop", "flip", "cutout", "resized-crop", "color-jitter", "trivial-augment"]


class NoiseConfig(Settings):
    """Wrong labels put into the training part on purpose; validation and test labels stay clean.

    ``symmetric`` is the exclusive form: each label is changed with probability ``rate``, on its own, to one
    of the *other* classes, all equally likely (bhanML/Co-teaching, data/utils.py).
    """

    kind: Literal["symmetric"] = "symmetric"
    rate: float = Field(ge=0.0, le=1.0)  # 0: none; 1: every label is wrong
    seed: int = Field(0, ge=0)  # the noise's own, so that all training seeds see the same wrong labels


class CommonConfig(Settings):
    """What every data source takes."""

    mixup: float = Field(0.0, ge=0.0, allow_inf_nan=False)  # alpha of the Beta distribution; 0: off
    cutmix: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    # share held out of training where the source has no validation part of its own
    validation: float = Field(0.1, ge=0.0, lt=1.0)
    split_seed: int = Field(0, ge=0)  # not the training seed: teacher and student share the split
    noise: NoiseConfig | None = None

    @property
    def gives_rows(self) -> bool:
        """Whether an image may have several labels: its target is a row of 0 and 1, an entry a class."""
        return False

    @model_validator(mode="after")
    def _single_labels_only(self) -> Self:
        if self.gives_rows and (self.noise or self.mixup or self.cutmix):
            raise ValueError(
                "noise, mixup and cutmix work on one label an image, and this data gives several; remove them, "
                "or take data of single labels"
            )
        return self

    @field_validator("augment", check_fields=False)
    @classmethod
    def _no_repeats(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"{', '.join(repeated)} stands in the list more than once; name each augmentation once"
            )
        return names


class PictureConfig(CommonConfig):
    """What the sources of single picture files take."""

    image_size: int = Field(224, ge=8, le=1024)  # up to 64: held in memory; larger: decoded batch by batch
    augment: tuple[ImageAugment, ...] = ()
    workers: int = Field(2, ge=0)  # processes that decode; 0: the training process itself

    @model_validator(mode="after")
    def _augmentations_fit_the_size(self) -> Self:
        single = [
            name for name in self.augment if name in ("resized-crop", "color-jitter", "trivial-augment")
        ]
        if single and self.image_size <= RESIDENT_LIMIT:
            raise ValueError(
                f"augment {', '.join(single)} works on pictures larger than {RESIDENT_LIMIT} pixels, but "
                f"image_size is {self.image_size}; allowed here: crop, flip, cutout"
            )
        return self


class PictureFilesConfig(PictureConfig):
    """What the sources that list picture files below a folder take."""

    root: Path
    channels: Literal[1, 3] = 3  # 1: read as gray
    test: float = Field(0.1, ge=0.0, lt=1.0)  # share held out where there is no test part; 0: no test part
    on_bad_image: Literal["error", "skip"] = "error"  # a truncated, empty or non-image file


__all__ = [
    "RESIDENT_LIMIT",
    "BatchAugment",
    "CommonConfig",
    "ImageAugment",
    "NoiseConfig",
    "PictureConfig",
    "PictureFilesConfig",
]
