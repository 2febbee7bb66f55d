"""The settings that data sources have in common; no torch is imported here."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from kdcam.settings import Settings

RESIDENT_LIMIT = 64  # pixels a side; larger pictures are decoded batch by batch

BatchAugment = Literal["crop", "flip", "cutout"]
ImageAugment = Literal["crop", "flip", "cutout", "resized-crop", "color-jitter", "trivial-augment"]


NoiseKind = Literal["symmetric", "symmetric-inclusive", "asymmetric", "pairflip", "matrix", "file"]


class NoiseConfig(Settings):
    """Wrong labels put into the training part on purpose; validation and test labels stay clean.

    - ``symmetric`` (the exclusive form): each label is changed with probability ``rate``, on its own, to one of the
      *other* classes, all equally likely (bhanML/Co-teaching, data/utils.py).
    - ``symmetric-inclusive``: with probability ``rate`` a label is drawn anew from *all* classes, the true one
      included, so that rate (K - 1) / K of K classes' labels are wrong. LiJunnan1992/DivideMix
      (dataloader_cifar.py) redraws exactly int(rate * N) labels; here each label is drawn on its own.
    - ``asymmetric``: mistakes between look-alikes (Patrini et al., 2017, arXiv:1609.03683, section 5). CIFAR-10:
      truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog, each with probability ``rate``; the other
      five classes stay clean. CIFAR-100: each class to the next one of its superclass. Known by the classes' names.
    - ``pairflip``: each class to the next one, the last to the first, with probability ``rate`` (Co-teaching).
    - ``matrix``: ``file`` is a CSV file of K lines of K numbers; line i holds the probabilities of the labels that
      images of class i get, in the order of the classes.
    - ``file``: labels as people gave them. ``file`` is a CSV file (or .csv.gz) with a line for each training image: its
      ``path`` from data.root on, or its ``index`` in the source's training part before any is held out; ``column``
      holds the labels, as names or as indices of classes. A column ``clean`` must agree with the data's own labels.
    """

    kind: NoiseKind = "symmetric"
    rate: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="of a label that the kind changes, the probability to be drawn; 0: no noise",
    )
    seed: int = Field(
        0, ge=0, description="the noise's own, so that all training seeds see the same wrong labels"
    )
    file: Path | None = Field(
        None, description="of kind matrix or file: a CSV file, from the working folder on"
    )
    column: str | None = Field(None, min_length=1, description="of kind file: the column of the labels")

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> Self:
        needed = {"matrix": ("file",), "file": ("file", "column")}.get(self.kind, ("rate",))
        for key in ("rate", "file", "column"):
            if key in needed and getattr(self, key) is None:
                raise ValueError(f'{key} is missing; kind = "{self.kind}" needs {" and ".join(needed)}')
            if key not in needed and getattr(self, key) is not None:
                raise ValueError(
                    f'found {key}, which does nothing with kind = "{self.kind}"; remove it (this kind needs '
                    f"{' and '.join(needed)})"
                )
        if self.kind == "file" and self.seed != 0:
            raise ValueError(f'found seed = {self.seed}, but kind = "file" draws nothing; remove seed')
        return self


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
    "NoiseKind",
    "PictureConfig",
    "PictureFilesConfig",
]
