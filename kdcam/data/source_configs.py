"""The settings of each data source: one class a source, so that a key that does nothing for it is refused.

This module imports no torch, so that a recipe is checked (and ``kdcam --help`` shown) at once.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from kdcam.data.common_config import (
    RESIDENT_LIMIT,
    BatchAugment,
    CommonConfig,
    PictureConfig,
    PictureFilesConfig,
)

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
USUAL_SEPARATOR = ";"  # between the names in a cell of a label file


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

    @property
    def gives_rows(self) -> bool:
        """Whether an image may have several labels."""
        return self.multi_label


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


class OmniglotConfig(CommonConfig):
    """Omniglot: handwritten characters of many alphabets, 20 drawings each; a class is a character of an alphabet.

    ``root`` is where the sets are (images_background_small1.zip and its like): the zip files as they come, or their
    folders, or alphabets' folders. The drawings of 105 pixels are resized to ``image_size`` and turned over: ink is 1
    and paper 0. A class split never cuts an alphabet in two.
    """

    name: Literal["omniglot"] = "omniglot"
    root: Path
    image_size: int = Field(28, ge=8, le=105)
    augment: tuple[BatchAugment, ...] = ()
    test: float = Field(0.1, ge=0.0, lt=1.0)  # share held out, 2 drawings of a character; 0: no test part

    def class_group(self, name: str) -> str:
        """Return the alphabet of a character."""
        return name.partition("/")[0]


class ImageFolderConfig(PictureFilesConfig):
    """A folder of pictures: root with train/ and optionally val/ and test/, each with a folder a class; or
    one folder of class folders, which is split.

    val/ is the validation part where it exists; otherwise the share ``validation`` is held out of training. The same
    goes for test/ and ``test``. The parts may bear other usual names in any case (Training, validation_set, dev, Test
    Data, eval); folders that may be parts or classes are refused. Hidden and system folders are left out, each real
    file counts once, names of classes are compared in NFC. Pictures are turned as their EXIF tag says, cut to the
    middle square and resized; alpha is laid over white.
    """

    name: Literal["image-folder"] = "image-folder"


class ImageLabelsConfig(PictureFilesConfig):
    """Pictures with several labels each, as the CSV or JSON file ``labels`` says; only those it names are read.

    CSV: the columns ``image`` and ``labels`` (names between separators; an empty cell: none), or ``image`` and
    a column of 0 and 1 for each class. JSON: ``{"a.jpg": ["cat", "dog"]}``, or a list of
    ``{"image": "a.jpg", "labels": ["cat"]}``. A column (or key) ``split`` of train, validation (val, valid, dev)
    and test makes the parts; a part that it lacks is held out of training. Pictures are named from ``root`` on.
    """

    name: Literal["image-labels"] = "image-labels"
    labels: Path  # from root on, or absolute
    label_separator: str = Field(USUAL_SEPARATOR, min_length=1)  # between the names in a cell of a CSV file

    @property
    def gives_rows(self) -> bool:
        """Whether an image may have several labels."""
        return True

    @model_validator(mode="after")
    def _known_format(self) -> Self:
        kind = self.labels.suffix.lower()
        if kind not in (".csv", ".json"):
            raise ValueError(f"labels is {str(self.labels)!r}; allowed: a file that ends in .csv or .json")
        if kind == ".json" and self.label_separator != USUAL_SEPARATOR:
            raise ValueError("label_separator works on CSV files, and labels is a JSON file; remove it")
        return self


class YoloLabelsConfig(PictureFilesConfig):
    """Pictures below images/ and YOLO's label files below labels/: a line ``class cx cy w h`` for each object.

    A picture has the labels of the classes that its file names, none where the file is missing or empty; what stands
    behind a class (a box, a confidence, a polygon, points of a pose) is checked to be numbers and not read further.
    images/train*, val* and test* (as in train2017) are the parts, with the label files in folders of the same names;
    without these folders the pictures are split. Beside them, other folders and pictures in images/ are not read.
    train*/images with train*/labels, and so on, are the parts where there is no images/.
    ``names`` tells the classes: a YAML file with the key names, all of whose values are texts (no, 3), or a text file
    with a name a line.
    """

    name: Literal["yolo-labels"] = "yolo-labels"
    # from root on, or absolute; None: the first of data.yaml, dataset.yaml, config.yaml, classes.txt in root
    names: Path | None = None

    @property
    def gives_rows(self) -> bool:
        """Whether an image may have several labels."""
        return True

    @field_validator("names")
    @classmethod
    def _known_format(cls, names: Path | None) -> Path | None:
        if names is not None and names.suffix.lower() not in (".yaml", ".yml", ".txt"):
            raise ValueError(f"found {str(names)!r}; allowed: a file that ends in .yaml, .yml or .txt")
        return names


class TorchvisionConfig(PictureConfig):
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
    "omniglot",
    "image-folder",
    "image-labels",
    "yolo-labels",
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
    | Annotated[OmniglotConfig, Tag("omniglot")]
    | Annotated[ImageFolderConfig, Tag("image-folder")]
    | Annotated[ImageLabelsConfig, Tag("image-labels")]
    | Annotated[YoloLabelsConfig, Tag("yolo-labels")]
    | Annotated[TorchvisionConfig, Tag("torchvision:<Name>")],
    Discriminator(_source_tag),
]

__all__ = [
    "DATA_NAMES",
    "TORCHVISION_SETS",
    "USUAL_SEPARATOR",
    "CifarConfig",
    "DataConfig",
    "DigitScenesConfig",
    "DigitsConfig",
    "ImageFolderConfig",
    "ImageLabelsConfig",
    "MnistConfig",
    "OmniglotConfig",
    "TorchvisionConfig",
    "YoloLabelsConfig",
]
