"""What data sources have in common, with the settings of label noise, class splits and episodes; no torch here."""

from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from kdcam.settings.validation import Settings

RESIDENT_LIMIT = 64  # pixels a side; larger pictures are decoded batch by batch
# of a picture that a recipe reads; above, Pillow too warns of files made to fill the memory
MAX_PIXELS = 89_000_000
MOST_PIXELS = 178_000_000  # where no recipe says how many, and pictures are decoded one at a time

ClassPart = Literal["base", "validation", "novel"]
CLASS_PARTS: tuple[ClassPart, ...] = get_args(ClassPart)
NoiseKind = Literal["symmetric", "symmetric-inclusive", "asymmetric", "pairflip", "matrix", "file"]
BatchAugment = Literal["crop", "flip", "cutout"]
ImageAugment = Literal["crop", "flip", "cutout", "resized-crop", "color-jitter", "trivial-augment"]


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


class ClassSplitConfig(Settings):
    """Classes told apart, so that a network is trained on some of them and tried on classes it has never seen.

    Either ``file``, a CSV file with the header ``class,part`` and a line for each class, or counts: ``novel`` and
    ``validation`` classes are drawn with ``seed``, and the rest is base. The novel classes stay the same whatever the
    number of validation classes. Labels are numbered anew, in the data's order of classes. Of omniglot, counts are
    of whole alphabets, and a line of the file may name an alphabet for all its characters.
    """

    part: ClassPart = Field("base", description="the classes that make the data set")
    file: Path | None = Field(
        None, description="CSV file of class,part (base, validation, novel), from the working folder on"
    )
    novel: int | None = Field(None, ge=1, description="number of classes; of omniglot: of alphabets")
    validation: int = Field(0, ge=0, description="number of classes to choose constants on")
    seed: int = Field(0, ge=0, description="decides which classes; not the training seed")

    @model_validator(mode="after")
    def _a_file_or_counts(self) -> Self:
        if self.file is None and self.novel is None:
            raise ValueError("novel is missing; give the number of novel classes, or a file of class,part")
        if self.file is not None and (self.novel is not None or self.validation or self.seed):
            raise ValueError(
                "found file together with novel, validation or seed, which draw classes; the file tells the part of "
                "each class, so keep either it or the counts"
            )
        if self.part == "validation" and self.file is None and self.validation == 0:
            raise ValueError(
                'found part = "validation" with validation = 0, which makes no such class; give their number'
            )
        return self


class CommonConfig(Settings):
    """What every data source takes."""

    mixup: float = Field(0.0, ge=0.0, allow_inf_nan=False)  # alpha of the Beta distribution; 0: off
    cutmix: float = Field(0.0, ge=0.0, allow_inf_nan=False)
    # share held out of training where the source has no validation part of its own
    validation: float = Field(0.1, ge=0.0, lt=1.0)
    split_seed: int = Field(0, ge=0)  # not the training seed: teacher and student share the split
    # of the training images left when validation and test are held out; drawn with split_seed, smaller inside larger
    fraction: float = Field(1.0, gt=0.0, le=1.0)
    noise: NoiseConfig | None = None
    class_split: ClassSplitConfig | None = None  # trains on some of the classes; None: on all of them

    @model_serializer(mode="wrap")
    def _only_used_tables(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A run from before there was the key is of the same recipe.
        values: dict[str, Any] = handler(self)
        if self.class_split is None:
            values.pop("class_split", None)
        if self.fraction == 1:
            values.pop("fraction", None)
        if values.get("max_pixels") == MAX_PIXELS:
            del values["max_pixels"]
        return values

    def class_group(self, name: str) -> str:
        """Return which classes a split keeps together with the class ``name``: the name of their group."""
        return name

    @property
    def gives_rows(self) -> bool:
        """Whether an image may have several labels: its target is a row of 0 and 1, an entry a class."""
        return False

    @model_validator(mode="after")
    def _single_labels_only(self) -> Self:
        if self.gives_rows and (self.noise or self.mixup or self.cutmix or self.class_split):
            raise ValueError(
                "noise, mixup, cutmix and class_split work on one label an image, and this data gives several; remove "
                "them, or take data of single labels"
            )
        return self

    @model_validator(mode="after")
    def _no_noise_across_the_split(self) -> Self:
        if self.class_split is not None and self.noise is not None and self.noise.kind == "file":
            raise ValueError(
                'found class_split with noise.kind = "file", whose labels number all classes of the data; take another '
                "kind of noise, or leave class_split out"
            )
        if self.class_split is not None and self.noise is not None and self.noise.kind == "asymmetric":
            raise ValueError(
                'found class_split with noise.kind = "asymmetric", whose look-alikes may lie on both sides of it; '
                "take another kind of noise, or leave class_split out"
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
    on_bad_image: Literal["error", "skip"] = "error"  # a truncated, empty, non-image or too large file
    max_pixels: int = Field(
        MAX_PIXELS, ge=1, le=1_000_000_000, description="width times height of the largest picture"
    )


class EpisodesConfig(Settings):
    """Trains in episodes: each batch holds ``ways`` classes, and of each ``shots`` + ``queries`` images.

    The support images come first, class by class, then the queries, class by class. Each episode is drawn anew: an
    image may come several times in an epoch, or not at all. It takes the place of ``batch_size``.
    """

    ways: int = Field(20, ge=2, description="classes in a batch")
    shots: int = Field(5, ge=1, description="support images of each class, the first of it in the batch")
    queries: int = Field(5, ge=1, description="images of each class that come after its support")
    per_epoch: int = Field(100, ge=1, description="batches in an epoch")

    @property
    def images(self) -> int:
        """Images in an episode."""
        return self.ways * (self.shots + self.queries)


__all__ = [
    "CLASS_PARTS",
    "MAX_PIXELS",
    "MOST_PIXELS",
    "RESIDENT_LIMIT",
    "BatchAugment",
    "ClassPart",
    "ClassSplitConfig",
    "CommonConfig",
    "EpisodesConfig",
    "ImageAugment",
    "NoiseConfig",
    "NoiseKind",
    "PictureConfig",
    "PictureFilesConfig",
]
