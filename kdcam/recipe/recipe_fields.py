"""Tables of a recipe that stand for themselves: [teacher] and [published]."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from kdcam.data.source_configs import DataConfig
from kdcam.files.folders import teacher_cache_folder
from kdcam.models.model_config import Mean, Std
from kdcam.settings.frozen_settings import Settings


class Published(Settings):
    """The number that a paper gives for what a recipe does, shown beside the run's own."""

    accuracy: float = Field(ge=0, le=100, description="top-1 on the test part, in per cent")
    source: str = Field(description="where it stands, and what differs there")


class TeacherConfig(Settings):
    """The network that teaches."""

    checkpoint: str = Field(
        description="run folder, .safetensors file with its config.json, .pth file of RepDistiller's kind, or name of "
        "a timm or torchvision network with published weights"
    )
    name: str | None = Field(
        None, description="network of a file without config.json, where its folder's name does not tell it"
    )
    mean: Mean | None = Field(
        None,
        description="of the input of such a file, one a channel; none: CIFAR-100's for kdcam: networks, else the "
        "network source's own",
    )
    std: Std | None = Field(None, description="of the input of such a file, one a channel; none: as for mean")
    cache: Literal["none", "views"] = Field(
        "none",
        description="views: the teacher is run once over some augmented views of each training image, and training "
        "draws among these; none: it is run at every step",
    )
    views: int | None = Field(
        None,
        ge=1,
        description="augmented views of each training image in the cache; none: one for every four epochs, 4 to 16; "
        "a single one where nothing is augmented",
    )
    views_seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        description="decides the views; not the training seed, so that all seeds share them",
    )
    cache_folder: Path | None = Field(
        None, description="where the cache lies; none: a folder of its own below kdcam's cache folder"
    )

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Self:
        if self.cache == "views":
            return self
        usual = type(self).model_construct(checkpoint="")
        for key in ("views", "views_seed", "cache_folder"):
            value = getattr(self, key)
            if value != getattr(usual, key):
                raise ValueError(
                    f'{key} = {value}, but cache = "none" keeps no view; set cache = "views", or leave {key} out'
                )
        return self


def cache_problems(teachers: Sequence[TeacherConfig], data: DataConfig) -> Iterator[str]:
    """Yield why the teachers' outputs cannot be kept, each with the way out; nothing where none are to be kept."""
    cached = [teacher for teacher in teachers if teacher.cache == "views"]
    if not cached:
        return
    if len({(teacher.cache, teacher.views, teacher.views_seed) for teacher in teachers}) > 1:
        yield (
            "teacher: all teachers see the same view of an image, so their cache, views and views_seed must be equal; "
            "give each [[teacher]] table the same"
        )
    folders = [
        teacher_cache_folder(teacher.cache_folder) for teacher in cached if teacher.cache_folder is not None
    ]
    if len(set(folders)) < len(folders):
        yield (
            "teacher.cache_folder: is the same for several teachers; give each a folder of its own, or leave it out"
        )
    blends = {"data.mixup": data.mixup, "data.cutmix": data.cutmix}
    for key, value in blends.items():
        if value > 0:
            yield (
                f'{key}: found {value:g} with teacher.cache = "views", but an image is blended with another one at '
                f'each step, which no cache holds; set {key} = 0, or teacher.cache = "none"'
            )
    if "cutout" in data.augment:
        yield (
            'data.augment: found "cutout" with teacher.cache = "views", whose few views would hide the same squares '
            'in every epoch; remove it, or set teacher.cache = "none"'
        )


__all__ = ["Published", "TeacherConfig", "cache_problems"]
