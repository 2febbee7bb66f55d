"""What a loss reads and how losses are summed: Step, Shapes, LossConfig, Objective."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor, nn

from kdcam.models.classifier import Outputs, Task, TeacherOutputs, Widths
from kdcam.settings.validation import Settings

Images = Literal["trained", "clean"]
"""Which images: those that the student is trained on, adversarial under an [adversary] table; or the clean ones."""


class Step(NamedTuple):
    """Everything a loss may read of one training step."""

    student: Outputs
    teacher: TeacherOutputs | None
    targets: Tensor  # (N,) int64; (N, K) float rows for mixed labels or multi-label; rows carry no smoothing
    indices: Tensor  # (N,) int64, position in the training part
    progress: float  # 0 at the start of the run, 1 at its end
    clean: Outputs | None = None  # the clean images' outputs when the student saw adversarial ones


class Shapes(NamedTuple):
    """What a loss may know before training, to size its own parameters."""

    task: Task
    num_classes: int
    train_targets: Tensor  # (N,) labels as trained on, after noise; multi-label (N, K) rows
    student: Widths
    teacher: Widths | None


class LossConfig(Settings):
    """The settings that every loss has; a subclass's docstring is the loss's card."""

    name: str
    weight: float = Field(1.0, ge=0, allow_inf_nan=False, description="factor of the term in the sum")
    start: float = Field(0.0, ge=0, lt=1, description="fraction of the run at which the term is switched on")
    warmup: float = Field(
        0.0, ge=0, le=1, description="fraction of the run, from start on, over which the weight grows from 0"
    )
    images: Images = Field(
        "trained",
        description="which images' outputs are read: those trained on, which an [adversary] table makes adversarial, "
        "or the clean ones beside them",
    )

    needs: ClassVar[frozenset[str]] = frozenset()
    """What must exist with default settings: "cam" (an exact CAM of the student), "teacher.logits", "clean" ..."""
    takes: ClassVar[frozenset[str]] = frozenset({"labels"})
    """Which targets the loss understands, of "labels", "mixed", "multi-label"."""
    misfit_heads: ClassVar[frozenset[str]] = frozenset()
    """Heads ([model] head) under which the loss cannot do its work."""
    trains_classifier: ClassVar[bool] = False
    """Whether a classifier can be trained with this loss alone; another one needs such a loss beside it."""
    takes_one_place: ClassVar[bool] = False
    """Whether the loss does its work on last maps of 1 x 1; False: it reads where something is."""

    @model_serializer(mode="wrap")
    def _only_unusual(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A run from before there were these keys is of the same recipe.
        values: dict[str, Any] = handler(self)
        for key, usual in (("images", "trained"), ("stages", "last-of-size")):
            if values.get(key) == usual:
                del values[key]
        return values

    @classmethod
    def reads_teacher(cls) -> bool:
        """Return whether the loss needs anything of a teacher."""
        return any(need.startswith("teacher.") for need in cls.needs)

    def needed(self) -> frozenset[str]:
        """Return what must exist with these settings; a loss whose settings choose what it reads overrides it."""
        return self.needs

    def images_read(self) -> frozenset[Images]:
        """Return which images' outputs the loss reads."""
        beside: tuple[Images, ...] = ("clean",) if "clean" in self.needs else ()
        return frozenset((self.images, *beside))

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the module whose ``forward(step)`` is the loss."""
        raise NotImplementedError

    def misfit(self, shapes: Shapes) -> str | None:
        """Return why the loss cannot work with these sizes, and the way out; None where it can.

        It is asked before any data is read: ``shapes.train_targets`` may be empty.
        """
        del shapes
        return None

    def diagnose(self, terms: Mapping[str, float], shapes: Shapes) -> str | None:
        """Return a warning when an epoch's mean terms show that this loss does harm; None when they do not."""
        del terms, shapes
        return None

    def weight_at(self, progress: float) -> float:
        """Return the weight in effect at a fraction of the run in [0, 1]."""
        if progress < self.start:
            return 0.0
        if self.warmup == 0:
            return self.weight
        return self.weight * min(1.0, (progress - self.start) / self.warmup)


class LossTerms(NamedTuple):
    """The terms of the objective that were active in one step."""

    total: Tensor  # scalar, the weighted sum
    values: dict[str, Tensor]  # each scalar before its weight, detached
    weights: dict[str, float]
    broken: Tensor | None = None
    """(1 + teachers,) int64: images whose outputs were not finite, student's first."""


def term_names(configs: Sequence[LossConfig]) -> list[str]:
    """Return one name a term: the loss's own, numbered from the second of the same name on (kd, kd_2).

    A term that reads the clean images beside adversarial ones is told apart (kd_clean).
    """
    names: list[str] = []
    plain = [config.name + ("_clean" if config.images == "clean" else "") for config in configs]
    for index, name in enumerate(plain):
        earlier = plain[:index].count(name)
        names.append(name if earlier == 0 else f"{name}_{earlier + 1}")
    return names


def needs_of(configs: Iterable[LossConfig]) -> frozenset[str]:
    """Return what losses together need from student and teacher."""
    return frozenset[str]().union(*(config.needed() for config in configs))


class Objective(nn.Module):
    """The weighted sum of a recipe's losses, each switched on and warmed up by the progress of the run."""

    def __init__(self, configs: Sequence[LossConfig], shapes: Shapes, *others: Shapes) -> None:
        """Build the losses; ``others`` are the shapes with a second teacher, a third ..."""
        super().__init__()
        self.configs = tuple(configs)
        self.shapes = shapes
        self.names = term_names(configs)
        self.needs = needs_of(configs)
        self.losses = nn.ModuleList(config.build(shapes) for config in configs)
        # For each further teacher a loss of its own to each term that reads one: adapters and memories are its own.
        self.others = nn.ModuleList(
            nn.ModuleDict(
                {str(i): config.build(other) for i, config in enumerate(configs) if config.reads_teacher()}
            )
            for other in others
        )

    def needs_at(self, progress: float) -> frozenset[str]:
        """What the losses that run at a fraction of the run need."""
        return needs_of(self._running(progress))

    def images_at(self, progress: float) -> frozenset[Images]:
        """Which images' outputs the losses that run at a fraction of the run read."""
        return frozenset[Images]().union(*(config.images_read() for config in self._running(progress)))

    def _running(self, progress: float) -> list[LossConfig]:
        pairs = zip(self.configs, self.losses, strict=True)
        return [config for config, loss in pairs if _runs(config, loss, progress)]

    def forward(self, step: Step, others: Sequence[TeacherOutputs] = ()) -> LossTerms:
        """Return the weighted sum and each active term; a teacher term is its mean over all teachers.

        ``others`` are the outputs of the second teacher, the third ...
        """
        total = step.student.logits.new_zeros((), dtype=torch.float32)
        values: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        terms = zip(self.names, self.configs, self.losses, strict=True)
        for index, (name, config, loss) in enumerate(terms):
            if not _runs(config, loss, step.progress):
                continue
            weight = config.weight_at(step.progress)
            seen = step if config.images == "trained" else step._replace(student=clean_of(step))
            value = loss(seen)
            if self.others and config.reads_teacher():
                further = [
                    losses.get_submodule(str(index))(seen._replace(teacher=teacher))
                    for losses, teacher in zip(self.others, others, strict=True)
                ]
                value = torch.stack([value, *further]).mean()
            total = total + weight * value
            values[name] = value.detach()
            weights[name] = weight
        return LossTerms(total, values, weights)

    def diagnose(self, terms: Mapping[str, float]) -> list[str]:
        """Return the warnings that an epoch's mean terms call for."""
        found = (config.diagnose(terms, self.shapes) for config in self.configs)
        return [text for text in found if text is not None]


def _runs(config: LossConfig, loss: nn.Module, progress: float) -> bool:
    # A term that owns parameters runs with weight 0, else DistributedDataParallel waits for them.
    return config.weight_at(progress) > 0 or any(True for _ in loss.parameters())


def teacher_of(step: Step) -> TeacherOutputs:
    """Return the teacher's outputs of a step that must have them."""
    if step.teacher is None:
        raise ValueError("this loss reads the teacher's outputs, and the step has none")
    return step.teacher


def clean_of(step: Step) -> Outputs:
    """Return the student's outputs of the clean images of a step that must have them."""
    if step.clean is None:
        raise ValueError("this loss reads the student's outputs of the clean images, and the step has none")
    return step.clean


def present(value: Any, what: str) -> Tensor:
    """Return an optional tensor of the protocol that must be there.

    Raises ``ValueError`` when it is None: the recipe's checks let a loss run only where its needs are met.
    """
    if value is None:
        raise ValueError(f"this loss reads {what}, and the step has none")
    assert isinstance(value, Tensor)
    return value


__all__ = [
    "Images",
    "LossConfig",
    "LossTerms",
    "Objective",
    "Shapes",
    "Step",
    "clean_of",
    "needs_of",
    "present",
    "teacher_of",
    "term_names",
]
