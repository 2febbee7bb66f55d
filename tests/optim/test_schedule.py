from typing import Literal

import pytest
import torch

from kdcam.errors import RecipeError
from kdcam.optim.schedule import (
    ConstantConfig,
    CosineConfig,
    MultistepConfig,
    TimmScheduleConfig,
    build_schedule,
)


def optimizer(lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(config: object, epochs: int, *, points: list[float] | None = None) -> list[float]:
    own = optimizer()
    schedule = build_schedule(config, own, epochs=epochs)  # type: ignore[arg-type]
    found = []
    for epoch in points if points is not None else range(epochs):
        schedule.before_update(epoch)
        found.append(own.param_groups[0]["lr"])
        schedule.after_epoch(int(epoch) + 1)
    return found


def reference(make: object, epochs: int) -> list[float]:
    own = optimizer()
    scheduler = make(own)  # type: ignore[operator]
    found = []
    for _ in range(epochs):
        found.append(own.param_groups[0]["lr"])
        own.step()
        scheduler.step()
    return found


def test_cosine_equals_torch_at_whole_epochs() -> None:
    theirs = reference(lambda own: torch.optim.lr_scheduler.CosineAnnealingLR(own, 10), 10)
    assert rates(CosineConfig(), 10) == pytest.approx(theirs)


def test_multistep_equals_torch() -> None:
    theirs = reference(lambda own: torch.optim.lr_scheduler.MultiStepLR(own, [3, 5], gamma=0.2), 8)
    assert rates(MultistepConfig(milestones=(3, 5), gamma=0.2), 8) == pytest.approx(theirs)


def test_warmup_rises_within_the_epochs_and_the_cosine_follows() -> None:
    config = CosineConfig(warmup_epochs=2, min_lr_fraction=0.1)
    assert rates(config, 10, points=[0, 0.5, 1, 2, 6, 10]) == pytest.approx(
        [1e-4, 0.025, 0.05, 0.1, 0.055, 0.01]
    )


def test_constant_stays() -> None:
    assert rates(ConstantConfig(), 3) == [0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            TimmScheduleConfig(name="step", options={"decay_epochs": 2, "decay_rate": 0.5}),
            [0.1, 0.1, 0.05, 0.05],
        ),
        (TimmScheduleConfig(name="poly", options={"decay_rate": 1.0}), [0.1, 0.075, 0.05, 0.025]),
    ],
)
def test_timm_schedules_move_by_the_epoch(config: TimmScheduleConfig, expected: list[float]) -> None:
    assert rates(config, 4) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["step", "tanh", "poly"])
def test_timm_schedules_keep_the_factors_of_groups_with_other_rates(
    name: Literal["step", "tanh", "poly"],
) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": parameters[:1], "lr": 0.1}, {"params": parameters[1:], "lr": 0.1 * 2**-16}]
    own = torch.optim.SGD(groups, lr=0.1)
    options = {"decay_epochs": 2} if name == "step" else {"min_lr": 1e-3}
    schedule = build_schedule(TimmScheduleConfig(name=name, warmup_epochs=2, options=options), own, epochs=6)
    found = []
    for epoch in range(6):
        schedule.before_update(epoch)
        found.append([group["lr"] for group in own.param_groups])
        schedule.after_epoch(epoch + 1)
    # timm's warm-up would begin at 1e-5 for both, and tanh and poly would end at 1e-3 for both.
    assert [low / high for high, low in found] == pytest.approx([2**-16] * 6)
    whole = TimmScheduleConfig(name=name, warmup_epochs=2, options=options)
    assert [high for high, _ in found] == pytest.approx(rates(whole, 6))


def test_timm_schedule_state_round_trip() -> None:
    config = TimmScheduleConfig(name="tanh")
    first = build_schedule(config, optimizer(), epochs=5)
    first.after_epoch(2)
    second = build_schedule(config, optimizer(), epochs=5)
    second.load_state_dict(first.state_dict())
    assert second.state_dict().keys() == first.state_dict().keys()


def test_resumed_formula_needs_no_state() -> None:
    config = CosineConfig(warmup_epochs=1)
    whole = rates(config, 6, points=[0, 0.5, 1, 3, 4.5])
    assert rates(config, 6, points=[3, 4.5]) == whole[3:]


def test_each_group_keeps_its_own_rate() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    own = torch.optim.SGD([{"params": parameters[:1], "lr": 1.0}, {"params": parameters[1:], "lr": 0.1}])
    schedule = build_schedule(CosineConfig(), own, epochs=4)
    for _ in range(2):  # the factor is of the first rate, not of the last
        schedule.before_update(2)
    assert [group["lr"] for group in own.param_groups] == pytest.approx([0.5, 0.05])


@pytest.mark.parametrize(
    ("warmup", "epoch", "rate"), [(0, 0, 0.1), (10, 5, 0.05), (10, 9.99, 0.0999), (3, 2.99, 0.1 * 2.99 / 3)]
)
def test_warmup_as_long_as_the_run_or_longer(warmup: float, epoch: float, rate: float) -> None:
    config = CosineConfig(warmup_epochs=warmup)
    assert rates(config, 10 if warmup == 10 else 3, points=[epoch]) == pytest.approx([rate])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"decay_rates": 0.1},
            "schedule.options: timm's schedules have no 'decay_rates'; did you mean 'decay_rate'",
        ),
        ({"num_epochs": 3}, "schedule.options: timm's schedules have no 'num_epochs'"),
        ({"warmup_epochs": 3}, "schedule.options: timm's schedules have no 'warmup_epochs'"),
        ({"decay_epochs": 0}, "schedule.options: timm's step does not take .'decay_epochs': 0"),
    ],
)
def test_options_that_timm_does_not_take(options: dict[str, int], match: str) -> None:
    config = TimmScheduleConfig(name="step", options=options)
    with pytest.raises(RecipeError, match=match):
        build_schedule(config, optimizer(), epochs=5)
