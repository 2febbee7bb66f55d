"""Tests of kdcam.training.length_warnings: each warning at the border of what fits, and the number that it names
fits."""

import re
from pathlib import Path
from typing import Any

import pytest
from small_runs import Watcher, small_recipe

import kdcam
from kdcam.losses.asoftmax import ASoftmaxConfig
from kdcam.training.length_warnings import last_progress, length_warnings, steps_an_epoch

ANGULAR = {"name": "kdcam:resnet8_s2", "head": "unit-weight"}
IMAGES = 60  # with batches of 20: 3 steps an epoch


def warnings_of(images: int | None = IMAGES, **changes: Any) -> tuple[str, ...]:
    recipe = small_recipe(**{"epochs": 10, "batch_size": 20, "loss": [{"name": "cross_entropy"}], **changes})
    return length_warnings(recipe, train_images=images)


def the_warning(words: str, images: int | None = IMAGES, **changes: Any) -> str:
    (found,) = warnings_of(images, **changes)
    assert re.search(words, found), found
    return found


def test_a_usual_recipe_fits() -> None:
    assert warnings_of() == ()
    assert warnings_of(None) == ()
    assert warnings_of(epochs=1) == ()


def test_steps_are_those_of_the_batches() -> None:
    recipe = small_recipe(batch_size=20)
    assert [steps_an_epoch(recipe, images) for images in (19, 20, 21, 22, 60)] == [1, 1, 1, 2, 3]
    assert last_progress(2, 3) == pytest.approx(5 / 6)
    assert last_progress(2, 3, accumulate=2) == pytest.approx((1 + 2 / 3) / 2)


def test_a_warm_up_as_long_as_the_run() -> None:
    for name in ("cosine", "constant", "tanh"):
        found = {"name": name, "warmup_epochs": 10}
        the_warning(
            r"^schedule.warmup_epochs: found 10 in a run of 10 epochs, .* of the run is 1$", schedule=found
        )
        assert warnings_of(schedule={"name": name, "warmup_epochs": 9}) == ()
    found = {"name": "cosine", "warmup_epochs": 5}
    the_warning(r"found 5 in a run of 3 epochs, .* never reaches .* is 0\.3$", schedule=found, epochs=3)


def test_milestones_after_the_end() -> None:
    late = {"name": "multistep", "milestones": [150, 180, 210]}
    text = the_warning(
        r"^schedule.milestones: found 150, 180, 210 in a run of 3 epochs, so that the learning rate never falls; "
        r"scaled to this run they are \[(.*)\]$",
        schedule=late,
        epochs=3,
    )
    scaled = [float(number) for number in text.partition("[")[2].strip("]").split(", ")]
    assert scaled == pytest.approx([1.93, 2.31, 2.7], abs=0.01)
    assert warnings_of(schedule={"name": "multistep", "milestones": scaled}, epochs=3) == ()
    assert warnings_of(schedule=late, epochs=240) == ()
    the_warning(r"found 210 in .* falls less often; .*\[135, 162, 189\]$", schedule=late, epochs=210)
    the_warning(
        r"found 4 within a warm-up of 4 epochs, .* below 4$",
        schedule={"name": "multistep", "milestones": [4, 8], "warmup_epochs": 4},
    )


def test_steps_cycles_and_cool_downs_of_timm() -> None:
    the_warning(r"none is given, which is 90 in a run of 10 epochs, .* 3\.3$", schedule={"name": "step"})
    late = {"name": "step", "options": {"decay_epochs": 10}}
    the_warning(r"decay_epochs: found 10 in a run of 10 epochs, .* never falls", schedule=late)
    assert warnings_of(schedule={"name": "step", "options": {"decay_epochs": 9}}) == ()
    again = {"name": "tanh", "options": {"cycle_limit": 3, "cycle_decay": 0.5}}
    the_warning(r"found cycle_limit, cycle_decay, but the first cycle is as long as the run", schedule=again)
    cooled = {"name": "poly", "options": {"cooldown_epochs": 5}}
    the_warning(r"cooldown_epochs: found 5, but .* the number that fits is 0$", schedule=cooled)


@pytest.mark.parametrize(("epochs", "accumulate"), [(100, 1), (10, 1), (1, 1), (10, 2), (10, 3)])
def test_a_moving_average_that_remembers_the_start(epochs: int, accumulate: int) -> None:
    text = the_warning(
        r"^ema_decay: found 0\.9998 in a run of", ema_decay=0.9998, epochs=epochs, accumulate=accumulate
    )
    fits = re.search(r"weights; (\S+) or less fits$", text)
    assert fits is not None
    assert warnings_of(ema_decay=float(fits[1]), epochs=epochs, accumulate=accumulate) == ()


def test_the_average_of_300_updates_in_numbers() -> None:
    # 0.9998^300 = 0.9418; 0.98^300 = 0.0023
    the_warning(r"run of 300 updates, after which 94 % .*; 0\.98 or less fits$", ema_decay=0.9998, epochs=100)
    assert warnings_of(ema_decay=0.98, epochs=100) == ()
    assert warnings_of(None, ema_decay=0.9998) == ()


def test_losses_that_never_come_into_force() -> None:
    late = [{"name": "cross_entropy"}, {"name": "cam", "start": 0.97}]
    the_warning(
        r"^loss cam: start = 0\.97, .* 30 steps begins after 0\.967 of the run, .*; 0\.966 or less fits$",
        loss=late,
    )
    for start in (0.966, 0.5):
        assert warnings_of(loss=[{"name": "cross_entropy"}, {"name": "cam", "start": start}]) == ()
    slow = [{"name": "cross_entropy"}, {"name": "cam", "start": 0.5, "warmup": 0.8, "weight": 3}]
    the_warning(
        r"^loss cam: start = 0\.5 and warmup = 0\.8 .* reaches 62 % of its weight; warmup = 0\.5 or less",
        loss=slow,
    )
    whole = [{"name": "cross_entropy"}, {"name": "cam", "start": 0.7, "warmup": 0.3}]
    assert warnings_of(loss=whole) == ()


def test_margins_that_a_short_run_never_meets() -> None:
    text = the_warning(
        r"^loss asoftmax: lambda is still 217 after the last of 30 batches, so that the margin counts for 0\.46 %",
        loss=[{"name": "asoftmax"}],
        model=ANGULAR,
    )
    fits = re.search(r"anneal_gamma = (\S+) or more fits$", text)
    assert fits is not None
    assert warnings_of(loss=[{"name": "asoftmax", "anneal_gamma": float(fits[1])}], model=ANGULAR) == ()
    assert pytest.approx(217, abs=1) == 1000 / (1 + 0.12 * 30)
    assert ASoftmaxConfig().anneal_gamma == 0.12
    assert warnings_of(loss=[{"name": "asoftmax"}], model=ANGULAR, epochs=400) == ()


def test_groups_longer_than_an_epoch_and_stages_that_never_wake() -> None:
    the_warning(r"^accumulate: found 4 where an epoch has 3 steps, .* at most 3 fit$", accumulate=4)
    start = {"checkpoint": "somewhere", "frozen": 2, "unfreeze": 0.99}
    the_warning(
        r"^init.unfreeze: found 0\.99, .* after 0\.967 of the run, .*; 0\.966 or less fits$", init=start
    )
    assert warnings_of(init={**start, "unfreeze": 0.966}) == ()


def test_more_views_than_epochs() -> None:
    teacher = {"checkpoint": "somewhere", "cache": "views", "views": 11}
    the_warning(
        r"^teacher.views: found 11 in a run of 10 epochs, .* at most 10 fit$",
        teacher=teacher,
        loss=[{"name": "kd"}],
    )
    teacher["views"] = 10
    assert warnings_of(teacher=teacher, loss=[{"name": "kd"}]) == ()


def test_the_watcher_of_a_run_is_warned_before_the_first_step(tmp_path: Path) -> None:
    watcher = Watcher()
    late = {"name": "multistep", "milestones": [150, 180]}
    recipe = small_recipe(epochs=1, schedule=late, ema_decay=0.9998)
    kdcam.train(recipe, output=tmp_path / "run", device="cpu", progress=watcher)
    found = [text.partition(":")[0] for text in watcher.warnings]
    assert found[:2] == ["schedule.milestones", "ema_decay"]


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (r"warmup = (\S+) or less fits$", {"start": 0.12345, "warmup": 0.95}),
        (r"warmup = (\S+) or less fits$", {"start": 0.99951, "warmup": 0.5}),
    ],
)
def test_a_warm_up_that_is_named_ends_in_the_run(words: str, changes: dict[str, float]) -> None:
    def loss(**settings: float) -> list[dict[str, Any]]:
        return [{"name": "cross_entropy"}, {"name": "cam", **settings}]

    fits = re.search(words, the_warning("end after the run", epochs=1000, loss=loss(**changes)))
    assert fits is not None
    assert warnings_of(epochs=1000, loss=loss(**{**changes, "warmup": float(fits[1])})) == ()


@pytest.mark.parametrize("power", [1e-9, 1e-3, 0.05])
def test_a_margin_that_no_gamma_brings_into_force(power: float) -> None:
    loss = {"name": "asoftmax", "anneal_power": power}
    text = the_warning(r"; anneal_base = 11 or less fits$", loss=[loss], model=ANGULAR)
    assert "gamma" not in text
    assert warnings_of(loss=[{**loss, "anneal_base": 11.0}], model=ANGULAR) == ()


def test_steps_of_timm_come_as_an_epoch_begins() -> None:
    def steps(decay: float, epochs: int) -> dict[str, Any]:
        return {"schedule": {"name": "step", "options": {"decay_epochs": decay}}, "epochs": epochs}

    the_warning(
        r"found 9\.5 in a run of 10 epochs, .* never falls; a third of the run is 3\.3$", **steps(9.5, 10)
    )
    the_warning(r"found 1 in a run of 1 epoch, .* never falls; take another schedule$", **steps(1, 1))
    for epochs in (2, 3, 4, 2000):
        text = the_warning("never falls", **steps(epochs, epochs))
        assert warnings_of(**steps(float(text.rpartition(" ")[2]), epochs)) == ()


def test_runs_of_one_update_and_of_thousands_of_epochs_in_words() -> None:
    start = {"checkpoint": "somewhere", "frozen": 2, "unfreeze": 0.5}
    the_warning(r"nothing would be unfrozen; leave it out, or train longer$", images=20, epochs=1, init=start)
    the_warning(r"a run of 1 update, after which 100 % of", images=20, epochs=1, ema_decay=0.9999)
    late = {"name": "multistep", "milestones": [1500, 2500]}
    the_warning(r"are \[1080, 1800\]$", schedule=late, epochs=2000)
