"""The keys and tables of a recipe, each checked for itself; how they fit together is table_checks.py's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import (
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    model_serializer,
    model_validator,
)

from kdcam.data.common_config import EpisodesConfig
from kdcam.data.source_configs import DataConfig
from kdcam.losses import LOSSES
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.loss import LossConfig
from kdcam.models.classifier import Task
from kdcam.models.model_config import InitConfig, Mean, ModelConfig, Std
from kdcam.optim.optimizer import OptimizerConfig, SgdConfig
from kdcam.optim.schedule import CosineConfig, ScheduleConfig
from kdcam.recipe.adversary_settings import AdversaryConfig
from kdcam.settings.validation import NonNegative, Settings

EPISODIC_LOSSES = ("prototypical",)
"""Losses whose ``shots`` are those of the episodes."""


@dataclass(frozen=True)
class RecipeSource:
    """What a recipe was read from. All are equal, so that recipes of the same settings are, whatever their names."""

    # Of its run folder's name; None: it was read from no file.
    stem: str | None = field(default=None, compare=False)


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


if TYPE_CHECKING:
    AnyLossConfig = LossConfig
else:
    AnyLossConfig = Annotated[Union[tuple(LOSSES.values())], Field(discriminator="name")]  # noqa: UP007


class RecipeFields(Settings):
    """The keys of a training recipe, each checked for itself, and what follows from them."""

    # Private: it decides nothing of the run, and is in no dump.
    _origin: RecipeSource = PrivateAttr(default=RecipeSource())

    description: str = ""
    task: Task = "single-label"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=2, description="images of a step, all processes together")] = 64
    select: Literal["best", "last"] = Field(
        "best", description="which epoch's weights: best on validation, or last"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto: fp32 on a CPU, else bf16 or fp16 autocast"
    )
    compile: bool = Field(False, description="compile the student's forward pass with torch.compile")
    accumulate: Annotated[
        int, Field(ge=1, description="steps whose gradients are averaged for one update")
    ] = 1
    clip_norm: NonNegative = Field(0.0, description="largest norm of the gradient; 0: off")
    ema_decay: float = Field(0.0, ge=0, lt=1, description="moving average of the student's weights; 0: off")
    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: tuple[AnyLossConfig, ...] = (CrossEntropyConfig(),)
    optimizer: OptimizerConfig = SgdConfig()
    schedule: ScheduleConfig = CosineConfig()
    adversary: AdversaryConfig | None = Field(
        None, description="trains on adversarial images; none: on clean"
    )
    init: InitConfig | None = Field(None, description="starts from a trained network; none: as [model] says")
    episodes: EpisodesConfig | None = Field(None, description="trains in few-shot episodes; none: in batches")
    published: Published | None = Field(None, description="the published number, shown beside the result")

    @model_validator(mode="before")
    @classmethod
    def _what_episodes_tell(cls, table: Any) -> Any:
        return _with_episodes(table)

    @field_serializer("model", mode="wrap")
    def _model_as_written(
        self, model: ModelConfig, serialize: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        table: dict[str, Any] = serialize(model)
        if self.init is None:
            return table
        # What is not written follows from the checkpoint, so that its default must not stand there.
        return {key: value for key, value in table.items() if key in model.model_fields_set}

    @model_serializer(mode="wrap")
    def _only_used_tables(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A run from before there was the table is of the same recipe.
        values: dict[str, Any] = handler(self)
        unused = {key for key in ("episodes", "init") if values.get(key) is None}
        return {key: value for key, value in values.items() if key not in unused}

    @property
    def stem(self) -> str | None:
        """The recipe's short name, as its run folder begins with; None where it was read from no file."""
        return self._origin.stem

    @property
    def has_teacher(self) -> bool:
        """Whether the recipe names a teacher."""
        return False

    @property
    def teachers(self) -> tuple[TeacherConfig, ...]:
        """The networks that teach."""
        return ()

    @property
    def target_kind(self) -> str:
        """Which targets the losses get: "labels", "mixed" or "multi-label"."""
        if self.task == "multi-label":
            return "multi-label"
        return "mixed" if self.data.mixup > 0 or self.data.cutmix > 0 else "labels"


def _with_episodes(table: Any) -> Any:
    """Return a recipe's table with what follows from its episodes, where it has them: the batch size, and the shots of
    the losses that read them (`EPISODIC_LOSSES`). What is written stays.
    """
    if not isinstance(table, Mapping) or table.get("episodes") is None:
        return table
    try:
        episodes = EpisodesConfig.model_validate(table["episodes"])
    except ValidationError:
        return table  # told with the recipe's other wrong keys
    filled = {"batch_size": episodes.images, **table}
    losses = table.get("loss")
    if isinstance(losses, list | tuple):
        filled["loss"] = [_with_shots(loss, episodes.shots) for loss in losses]
    return filled


def _with_shots(loss: Any, shots: int) -> Any:
    if isinstance(loss, Mapping):
        return {"shots": shots, **loss} if loss.get("name") in EPISODIC_LOSSES else loss
    if getattr(loss, "name", None) in EPISODIC_LOSSES and "shots" not in loss.model_fields_set:
        return loss.model_copy(update={"shots": shots})
    return loss


__all__ = ["EPISODIC_LOSSES", "Published", "RecipeFields", "RecipeSource", "TeacherConfig"]
