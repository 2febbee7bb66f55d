"""The learning-rate schedule of a recipe.

The schedules cosine, multistep and constant are arithmetic on the epoch, so that an ordinary run need not
import timm and a resumed one needs no state; the others are timm's (timm.scheduler).
"""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal, Protocol, Self

import torch
from pydantic import Field, model_validator

from kdcam.errors import RecipeError
from kdcam.settings.messages import did_you_mean
from kdcam.settings.validation import NonNegative, Positive, Settings


class Schedule(Protocol):
    """Sets the learning rate of an optimiser."""

    def before_update(self, epoch: float) -> None:
        """Set the rate for an update that begins after ``epoch`` epochs, a fraction included."""

    def after_epoch(self, epoch: int) -> None:
        """Set the rate of the next epoch; ``epoch`` is the one that ended, counted from 1."""

    def state_dict(self) -> dict[str, Any]:
        """Return what moves."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""


# Why three schedules are formulas and the rest timm's: docs/decisions/003.
class FormulaSchedule:
    """A learning rate that is a function of the epoch alone."""

    def __init__(self, optimizer: torch.optim.Optimizer, factor: Callable[[float], float]) -> None:
        self.optimizer = optimizer
        self.factor = factor
        self.base = [group["lr"] for group in optimizer.param_groups]

    def before_update(self, epoch: float) -> None:
        """Set each group's rate to its first one times the factor."""
        factor = self.factor(epoch)
        for group, base in zip(self.optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * factor

    def after_epoch(self, epoch: int) -> None:
        """Ignore: each update sets its own rate."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the rate follows from the epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""


class TimmSchedule:
    """A scheduler of timm, stepped by the epoch."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def before_update(self, epoch: float) -> None:
        """Ignore: timm's scheduler has set the rate for the whole epoch."""

    def after_epoch(self, epoch: int) -> None:
        """Set the rate of the next epoch."""
        self.scheduler.step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state."""
        state: dict[str, Any] = self.scheduler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back the scheduler's state."""
        self.scheduler.load_state_dict(state)


class ConstantConfig(Settings):
    """The same rate throughout, after the warm-up."""

    name: Literal["constant"] = "constant"
    warmup_epochs: NonNegative = 0.0

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the rate at an epoch, relative to the recipe's."""
        del epoch, epochs
        return 1.0


class CosineConfig(Settings):
    """Half a cosine, from the recipe's rate to a share of it (Loshchilov and Hutter 2017, arXiv 1608.03983)."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: NonNegative = 0.0
    min_lr_fraction: float = Field(0.0, ge=0, lt=1, description="share of the rate that is left at the end")

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the rate at an epoch, relative to the recipe's."""
        share = (epoch - self.warmup_epochs) / max(epochs - self.warmup_epochs, 1e-9)
        cosine = 0.5 * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0)))
        return self.min_lr_fraction + (1 - self.min_lr_fraction) * cosine


class MultistepConfig(Settings):
    """The rate times ``gamma`` at each milestone, as in most published tables."""

    name: Literal["multistep"] = "multistep"
    warmup_epochs: NonNegative = 0.0
    milestones: tuple[Positive, ...] = Field(description="epochs after which the rate falls")
    gamma: float = Field(0.1, gt=0, lt=1, description="factor at each milestone")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"milestones must rise, found {list(self.milestones)}")
        return self

    def factor(self, epoch: float, epochs: int) -> float:
        """Return the rate at an epoch, relative to the recipe's."""
        del epochs
        return self.gamma ** sum(epoch >= milestone for milestone in self.milestones)


class TimmScheduleConfig(Settings):
    """A schedule of timm.scheduler that kdcam has no formula for."""

    name: Literal["step", "tanh", "poly"]
    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    options: dict[str, bool | int | float] = Field(
        {}, description="arguments of timm's create_scheduler_v2: decay_epochs, decay_rate, min_lr ..."
    )


ScheduleConfig = Annotated[
    ConstantConfig | CosineConfig | MultistepConfig | TimmScheduleConfig, Field(discriminator="name")
]


def build_schedule(
    config: ConstantConfig | CosineConfig | MultistepConfig | TimmScheduleConfig,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
) -> Schedule:
    """Return the schedule of a run of ``epochs`` epochs; the warm-up rises linearly from a thousandth of the rate."""
    if isinstance(config, TimmScheduleConfig):
        return _timm_schedule(config, optimizer, epochs=epochs)

    def factor(epoch: float) -> float:
        if epoch < config.warmup_epochs:
            return max(epoch / config.warmup_epochs, 1e-3)
        return config.factor(epoch, epochs)

    return FormulaSchedule(optimizer, factor)


def _timm_schedule(config: TimmScheduleConfig, optimizer: torch.optim.Optimizer, *, epochs: int) -> Schedule:
    from timm.scheduler.scheduler_factory import create_scheduler_v2  # here: it takes seconds

    own = ("num_epochs", "warmup_epochs", "step_on_epochs", "updates_per_epoch")  # follow from other keys
    parameters = list(inspect.signature(create_scheduler_v2).parameters)[2:]
    known: Sequence[str] = [name for name in parameters if name not in own]
    _check_options(config.options, known)
    options: dict[str, Any] = {**config.options, "num_epochs": epochs, "warmup_epochs": config.warmup_epochs}
    _scale_by_timm(optimizer)
    try:
        scheduler, _ = create_scheduler_v2(optimizer, sched=config.name, **options)
        scheduler.step(0)
    except (TypeError, ValueError, ArithmeticError, AssertionError) as error:
        raise RecipeError(
            f"schedule.options: timm's {config.name} does not take {config.options!r}: {error}"
        ) from error
    return TimmSchedule(scheduler)


def _scale_by_timm(optimizer: torch.optim.Optimizer) -> None:
    """Give all groups one rate, and their factors of it to timm.

    timm's schedules begin their warm-up at one rate and end at one, which would be the rates of all groups; what they
    set is multiplied by a group's ``lr_scale``.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    if len(set(rates)) == 1:
        return
    largest = max(rates)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"], group["lr_scale"] = largest, rate / largest


def _check_options(options: Iterable[str], known: Sequence[str]) -> None:
    for key in options:
        if key not in known:
            raise RecipeError(f"schedule.options: timm's schedules have no {key!r}{did_you_mean(key, known)}")


__all__ = [
    "ConstantConfig",
    "CosineConfig",
    "FormulaSchedule",
    "MultistepConfig",
    "Schedule",
    "ScheduleConfig",
    "TimmSchedule",
    "TimmScheduleConfig",
    "build_schedule",
]
