"""The settings of each data source: one class a source, so that a key that does nothing for it is refused.

This module imports no torch, so that a recipe is checked (and ``kdcam --help`` shown) at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kdcam.settings import Settings

RESIDENT_LIMIT = 64  # pixels a side; larger pictures are decoded batch by batch

BatchAugment = Literal["crop", "flip", "cutout"]
ImageAugment = Literal["crop", "flip", "cutout", "resized-crop", "color-jitter", "trivial-augment"]

TORCHVISION_SETS = (
    "Country211",
    "DTD",
    "EuroSAT",
    "FGVCAircraft",
    "Flowers102",
    "Food101",
    "GTSRB",
    "Imagenette",
    "KMNIST",
    "OxfordIIITPet",
    "STL10",
    "SUN397",
    "SVHN",
    "StanfordCars",
    "USPS",
)


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

    @field_validator("augment", check_fields=False)
    @classmethod
    def _no_repeats(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"{', '.join(repeated)} stands in the list more than once; name each augmentation once"
            )
        return names


class DigitsConfig(CommonConfig):
    """scikit-learn's real handwritten digits, 8x8 gray, ten classes; they come inside the installed package.

    The first 1,300 in file order are training and validation, the other 497 are the test part.
    """

    name: Literal["digits"] = "digits"
    image_size: int = Field(8, ge=8, le=512)  # 8: as they are; larger: enlarged
    augment: tuple[BatchAugment, ...] = ()


class DigitScenesConfig(CommonConfig):
    """Real handwritten digits at random place, size and contrast on cluttered canvases; the embedded default.

    One whole digit (scikit-learn's, of 8x8 pixels) of about a third of the canvas gives the label and the
    box; smooth clutter, bright strokes and halves of other digits distract. Training, validation and test
    scenes are made of disjoint source digits. ``validation`` is the share of ``train_size``.
    """

    name: Literal["digit-scenes"] = "digit-scenes"
    image_size: int = Field(48, ge=16, le=RESIDENT_LIMIT)
    train_size: int = Field(5000, ge=20)  # scenes, those held out for validation included
    test_size: int = Field(2000, ge=1)
    multi_label: bool = False  # true: one to three whole digits of different classes
    augment: tuple[BatchAugment, ...] = ()

    @model_validator(mode="after")
    def _single_labels_only(self) -> Self:
        if self.multi_label and (self.noise or self.mixup or self.cutmix):
            raise ValueError(
                "noise, mixup and cutmix work on single labels; remove them or set multi_label = false"
            )
        return self


class MnistConfig(CommonConfig):
    """MNIST or Fashion-MNIST from the four idx files, plain or .gz; ten classes, 28x28 gray.

    Looked for in ``root``, in torchvision's folders below it and (Fashion-MNIST) where Debian's package
    dataset-fashion-mnist puts them; otherwise torchvision downloads them into ``root``.
    """

    name: Literal["mnist", "fashion-mnist"]
    root: Path | None = None  # None: kdcam's cache folder
    image_size: int = Field(28, ge=8, le=512)
    augment: tuple[BatchAugment, ...] = ()


class CifarConfig(CommonConfig):
    """CIFAR-10 or CIFAR-100, read (and if need be downloaded) by torchvision; 32x32 colour."""

    name: Literal["cifar10", "cifar100"]
    root: Path | None = None  # None: kdcam's cache folder
    image_size: int = Field(32, ge=8, le=512)
    augment: tuple[BatchAugment, ...] = ()


class _PictureConfig(CommonConfig):
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


class ImageFolderConfig(_PictureConfig):
    """A folder of pictures: root with train/ and optionally val/ and test/, each with a folder a class; or
    one folder of class folders, which is split.

    val/ (also called validation/ or valid/) is the validation part where it exists; otherwise the share
    ``validation`` is held out of training. The same goes for test/ and ``test``. Pictures are turned as their
    EXIF tag says, cut to the middle square and resized; alpha is laid over white.
    """

    name: Literal["image-folder"] = "image-folder"
    root: Path
    channels: Literal[1, 3] = 3  # 1: read as gray
    test: float = Field(0.1, ge=0.0, lt=1.0)  # share held out where there is no test folder; 0: no test part
    on_bad_image: Literal["error", "skip"] = "error"  # a truncated, empty or non-image file


class TorchvisionConfig(_PictureConfig):
    """One of torchvision's classification sets: ``torchvision:Flowers102``, ``torchvision:OxfordIIITPet`` ...

    Read (and if need be downloaded) by torchvision, in the parts its authors made. Where it has no validation
    or test part, the shares ``validation`` and ``test`` are held out of training.
    """

    name: str = Field(pattern=r"^torchvision:\w+$")
    root: Path | None = None  # None: kdcam's cache folder
    test: float = Field(0.1, ge=0.0, lt=1.0)

    @field_validator("name")
    @classmethod
    def _known_set(cls, name: str) -> str:
        if name.removeprefix("torchvision:") not in TORCHVISION_SETS:
            raise ValueError(
                f"{name!r} is not offered; allowed: torchvision: and one of {', '.join(TORCHVISION_SETS)}"
            )
        return name


DATA_NAMES = (
    "digits",
    "digit-scenes",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    "image-folder",
    "torchvision:<Name>",
)


def _source_tag(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if not isinstance(name, str):
        return None
    return "torchvision:<Name>" if name.startswith("torchvision:") else name


DataConfig = Annotated[
    Annotated[DigitsConfig, Tag("digits")]
    | Annotated[DigitScenesConfig, Tag("digit-scenes")]
    | Annotated[MnistConfig, Tag("mnist")]
    | Annotated[MnistConfig, Tag("fashion-mnist")]
    | Annotated[CifarConfig, Tag("cifar10")]
    | Annotated[CifarConfig, Tag("cifar100")]
    | Annotated[ImageFolderConfig, Tag("image-folder")]
    | Annotated[TorchvisionConfig, Tag("torchvision:<Name>")],
    Discriminator(_source_tag),
]

__all__ = [
    "DATA_NAMES",
    "RESIDENT_LIMIT",
    "TORCHVISION_SETS",
    "CifarConfig",
    "CommonConfig",
    "DataConfig",
    "DigitScenesConfig",
    "DigitsConfig",
    "ImageFolderConfig",
    "MnistConfig",
    "NoiseConfig",
    "TorchvisionConfig",
]
