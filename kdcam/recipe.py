"""Recipes: everything that decides a run, as frozen models that are read from TOML."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, Union

from pydantic import Field, ValidationError, model_validator

from kdcam.adversary import AdversaryConfig, adversary_problems
from kdcam.data.config import DataConfig, PictureConfig
from kdcam.errors import RecipeError
from kdcam.losses import LOSSES
from kdcam.losses.cross_entropy import CrossEntropyConfig
from kdcam.losses.loss import LossConfig, Task
from kdcam.methods import apply_method, fill_method, method_config, method_names
from kdcam.models.build import ModelConfig
from kdcam.optim import OptimizerConfig, SgdConfig
from kdcam.overrides import apply_override
from kdcam.recipe_errors import explain
from kdcam.recipe_files import read_toml
from kdcam.recipe_tables import Published, TeacherConfig, cache_problems
from kdcam.schedule import CosineConfig, ScheduleConfig
from kdcam.settings import NonNegative, Settings
from kdcam.wording import listed

HEAD_NEEDS = {"cosine_head": "cosine", "unit_weight_head": "unit-weight", "gaussian_head": "gaussian"}

if TYPE_CHECKING:
    AnyLossConfig = LossConfig
else:
    AnyLossConfig = Annotated[Union[tuple(LOSSES.values())], Field(discriminator="name")]  # noqa: UP007


class TrainRecipe(Settings):
    """A training run."""

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
    published: Published | None = Field(None, description="the published number, shown beside the result")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [*self._task_problems(), *self._selection_problems(), *self._loss_problems()]
        problems += [*self._head_problems(), *adversary_problems(self)]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _task_problems(self) -> Iterator[str]:
        if self.task == "single-label" and self.data.gives_rows:
            yield (
                f'task: found "single-label", but the data ({self.data.name}) gives several labels an image; '
                'set task = "multi-label", or take data of one label an image (digit-scenes: data.multi_label = false)'
            )
        if self.task == "multi-label" and self.published is not None:
            yield "published: is a top-1 accuracy, which a multi-label run does not have; remove the table"
        if self.task == "multi-label" and not self.data.gives_rows:
            yield (
                f'task: found "multi-label", but the data ({self.data.name}) gives one label an image; '
                'set task = "single-label", or take digit-scenes with multi_label = true, image-labels or yolo-labels'
            )

    def _selection_problems(self) -> Iterator[str]:
        if self.select == "best" and self.data.validation == 0 and not isinstance(self.data, PictureConfig):
            yield (
                'data.validation: found 0 with select = "best", which leaves nothing to select on; '
                'hold a part out (validation = 0.1) or take the last epoch (select = "last")'
            )

    def _loss_problems(self) -> Iterator[str]:
        if not self.loss:
            yield 'loss: found no [[loss]] table; at least one is needed, as in name = "cross_entropy"'
        elif all(loss.weight_at(0.0) == 0 for loss in self.loss):
            yield (
                "loss: no term has a weight at the start of the run, so there is nothing to learn from; give one a "
                "weight above 0, start = 0 and warmup = 0"
            )
        elif not any(loss.trains_classifier and loss.weight_at(0.0) > 0 for loss in self.loss):
            trainers = listed(
                name
                for name, kind in LOSSES.items()
                if kind.trains_classifier and self.target_kind in kind.takes
            )
            yield (
                "loss: no term trains the classifier from the start of the run; add one of these with start = 0: "
                f"{trainers}"
            )
        for index, loss in enumerate(self.loss):
            place = f"loss[{index}] ({loss.name})"
            if self.target_kind not in loss.takes:
                others = listed(name for name, kind in LOSSES.items() if self.target_kind in kind.takes)
                yield (
                    f"{place}: takes {listed(sorted(loss.takes))} as targets, and {self._target_reason}; "
                    f"losses that take those: {others}"
                )
            if "channel_attention" in loss.needs and not self.model.channel_attention:
                yield (
                    f"{place}: reads the channel attention, and the model has no such block; set "
                    "model.channel_attention = true"
                )
            if loss.reads_teacher() and not self.has_teacher:
                yield (
                    f"{place}: needs a teacher; name one (kdcam distill RECIPE --teacher RUN, or a [teacher] table), "
                    "or remove the loss"
                )

    def _head_problems(self) -> Iterator[str]:
        if self.task == "multi-label" and self.model.head == "gaussian":
            yield (
                'model.head: found "gaussian" with task = "multi-label", but its logits mean something under a softmax '
                'only; set head = "linear"'
            )
        for index, loss in enumerate(self.loss):
            if self.model.head in loss.misfit_heads:
                yield (
                    f'loss[{index}] ({loss.name}): reads the lengths of maps, which head = "{self.model.head}" divides '
                    'out; set model.head = "linear"'
                )
        wanted = {
            f"loss[{index}] ({loss.name})": head
            for index, loss in enumerate(self.loss)
            for need, head in HEAD_NEEDS.items()
            if need in loss.needs
        }
        needs = listed(f'{place} needs head = "{head}"' for place, head in wanted.items())
        if len(set(wanted.values())) > 1:
            yield f"loss: {needs}, and a model has one head; leave all but one kind out"
        elif any(head != self.model.head for head in wanted.values()):
            head = next(iter(wanted.values()))
            yield f'{needs}, and the model has head = "{self.model.head}"; set model.head = "{head}"'

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

    @property
    def _target_reason(self) -> str:
        if self.task == "multi-label":
            return 'task = "multi-label" gives multi-label rows'
        return (
            "data.mixup or data.cutmix above 0 gives mixed rows"
            if self.target_kind == "mixed"
            else "these are labels"
        )


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


def read_recipe(table: Mapping[str, Any], *, source: str) -> TrainRecipe:
    """Return the recipe that a table describes: a `DistillRecipe` when it has a [teacher] table or several.

    Raises ``RecipeError`` that names every wrong key at once.
    """
    table = dict(table)
    apply_method(table, None)
    model: type[TrainRecipe] = DistillRecipe if "teacher" in table else TrainRecipe
    if isinstance(table.get("teacher"), list | tuple):
        model = SeveralTeachersRecipe
    try:
        return model.model_validate(table)
    except ValidationError as error:
        problems = explain(error, model)
        head = (
            f"recipe {source}: "
            if len(problems) == 1
            else f"recipe {source} has {len(problems)} problems:\n  "
        )
        raise RecipeError(head + "\n  ".join(problems)) from error


def load(
    name_or_path: str | Path, overrides: Sequence[str] = (), *, method: str | None = None
) -> TrainRecipe:
    """Return a shipped recipe or a TOML file, with ``key.sub=value`` overrides applied before it is checked.

    ``method`` fills in the losses of a distillation method (see `kdcam.methods`) before the overrides; without it an
    override ``method=NAME`` does so.

    Raises ``RecipeError`` when there is no such recipe, it is not TOML, or it has wrong keys or values (all
    named at once).
    """
    table = read_toml(name_or_path)
    for override in fill_method(table, overrides, method):
        apply_override(table, override)
    return read_recipe(table, source=str(name_or_path))


def schema() -> dict[str, Any]:
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
    "Published",
    "SeveralTeachersRecipe",
    "TeacherConfig",
    "TrainRecipe",
    "load",
    "read_recipe",
    "schema",
]
