"""Recipes: everything that decides a run, as frozen models that are read from TOML."""

from collections.abc import Mapping, Sequence
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

from kdcam.data.episodes_config import EpisodesConfig, with_episodes
from kdcam.data.source_configs import DataConfig
from kdcam.errors import RecipeError
from kdcam.files.parsed_values import check_values
from kdcam.files.paths import shown
from kdcam.losses import LOSSES
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.loss import LossConfig
from kdcam.models.classifier import Task
from kdcam.models.init_config import InitConfig
from kdcam.models.model_config import ModelConfig
from kdcam.optim.optimizer import OptimizerConfig, SgdConfig
from kdcam.optim.schedule import CosineConfig, ScheduleConfig
from kdcam.recipe.adversary import AdversaryConfig
from kdcam.recipe.methods import apply_method, fill_method, method_config, method_names
from kdcam.recipe.overrides import apply_override
from kdcam.recipe.recipe_fields import Published, TeacherConfig, cache_problems
from kdcam.recipe.recipe_files import read_toml, recipe_stem
from kdcam.recipe.table_checks import recipe_problems
from kdcam.settings.frozen_settings import NonNegative, Settings
from kdcam.settings.recipe_errors import MOST_TOLD, validation_messages

if TYPE_CHECKING:
    AnyLossConfig = LossConfig
else:
    AnyLossConfig = Annotated[Union[tuple(LOSSES.values())], Field(discriminator="name")]  # noqa: UP007


@dataclass(frozen=True)
class RecipeSource:
    """What a recipe was read from. All are equal, so that recipes of the same settings are, whatever their names."""

    stem: str | None = field(
        default=None, compare=False
    )  # of its run folder's name; None: it was read from no file


class TrainRecipe(Settings):
    """A training run."""

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
        return with_episodes(table)

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

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = list(recipe_problems(self))
        if problems:
            raise ValueError("\n".join(problems))
        return self

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


class DistillRecipe(TrainRecipe):
    """A training run under a teacher."""

    teacher: TeacherConfig

    @property
    def teachers(self) -> tuple[TeacherConfig, ...]:
        """The networks that teach."""
        return (self.teacher,)

    @property
    def has_teacher(self) -> bool:
        """Whether the recipe names a teacher."""
        return True

    @model_validator(mode="after")
    def _teacher_teaches(self) -> Self:
        attack_reads = self.adversary is not None and bool(self.adversary.needs)
        if not attack_reads and not any(loss.reads_teacher() for loss in self.loss):
            raise ValueError(
                "loss: no term reads the teacher; add one (kd, caam_cam), or remove the [teacher] table"
            )
        return self

    @model_validator(mode="after")
    def _cache_fits(self) -> Self:
        problems = list(cache_problems(self.teachers, self.data))
        if problems:
            raise ValueError("\n".join(problems))
        return self


class SeveralTeachersRecipe(DistillRecipe):
    """A training run under the teachers of ``[[teacher]]`` tables; each teacher term is the mean over them."""

    # A recipe class of its own, not a union, so that a wrong key is told once.
    teacher: tuple[TeacherConfig, ...] = Field(min_length=1)  # type: ignore[assignment]

    @property
    def teachers(self) -> tuple[TeacherConfig, ...]:
        """The networks that teach."""
        return self.teacher


def read_recipe(table: Mapping[str, Any], *, source: str, stem: str | None = None) -> TrainRecipe:
    """Return the recipe that a table describes: a `DistillRecipe` when it has a [teacher] table or several.

    ``stem``: what the recipe is called, where it is of a file.

    Raises ``RecipeError`` that names every wrong key at once.
    """
    check_values(table, error=RecipeError, place=f"recipe {source}", bits=64, finite=False)
    table = dict(table)
    apply_method(table, None)
    model: type[TrainRecipe] = DistillRecipe if "teacher" in table else TrainRecipe
    if isinstance(table.get("teacher"), list | tuple):
        model = SeveralTeachersRecipe
    try:
        recipe = model.model_validate(table)
    except ValidationError as error:
        problems = validation_messages(error, model)
        count = len(problems) if len(problems) <= MOST_TOLD else error.error_count()
        head = f"recipe {source}: " if len(problems) == 1 else f"recipe {source} has {count:,} problems:\n  "
        raise RecipeError(head + "\n  ".join(problems)) from error
    recipe._origin = RecipeSource(stem)
    return recipe


def load_recipe(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, method: str | None = None
) -> TrainRecipe:
    """Return a shipped recipe or a TOML file, with ``key.sub=value`` overrides applied before it is checked.

    ``method`` fills in the losses of a distillation method (see `kdcam.recipe.methods`) before the overrides; without
    it an override ``method=NAME`` does so. The recipe keeps the file's short name and ``method`` as its ``stem``.

    Raises ``RecipeError`` when there is no such recipe, it is not TOML, or it has wrong keys or values (all
    named at once).
    """
    table = read_toml(name_or_path)
    for override in fill_method(table, overrides, method):
        apply_override(table, override)
    stem = recipe_stem(name_or_path) if method is None else f"{recipe_stem(name_or_path)}-{method}"
    return read_recipe(table, source=shown(name_or_path), stem=stem)


def recipe_schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe with every key; without its [teacher] table it is a training recipe."""
    document = DistillRecipe.model_json_schema()
    document["required"] = [key for key in document["required"] if key != "teacher"]
    one = document["properties"]["teacher"]
    document["properties"]["teacher"] = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    document["properties"]["method"] = {
        "enum": method_names(),
        "description": "a distillation method, in the place of [[loss]] tables",
    }
    document["properties"]["methods"] = {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/{method_config(name).__name__}"} for name in method_names()},
        "additionalProperties": False,
        "description": "settings of a method for this pair of networks, where it is chosen: [methods.dkd] beta = 2; "
        "of a sum of losses they go to the last",
    }
    published = document["properties"]["published"]
    of_methods = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Published"}}
    published["anyOf"] = [*published["anyOf"], of_methods]
    return document


__all__ = [
    "DistillRecipe",
    "RecipeSource",
    "SeveralTeachersRecipe",
    "TrainRecipe",
    "load_recipe",
    "read_recipe",
    "recipe_schema",
]
