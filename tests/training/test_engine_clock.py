from collections.abc import Callable

import pytest

from kdcam.training import engine
from kdcam.training.engine import SAVE_EVERY_SECONDS, SHOW_EVERY_SECONDS, EpochClock


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    own = Clock()
    monkeypatch.setattr(engine, "time", own)
    return own


def steps(running: EpochClock, clock: Clock, *, count: int, seconds: float, images: int = 8) -> None:
    for _ in range(count):
        clock.move(seconds)
        running.tick(images)


def test_images_a_second_and_time_left(clock: Clock) -> None:
    running = EpochClock(epoch=1, epochs=4, step=0, steps=10, seconds=0.0)
    steps(running, clock, count=4, seconds=0.5)
    assert running.images_per_second == pytest.approx(16)
    assert running.seconds == pytest.approx(2)
    # 6 steps of this epoch and 2 whole epochs, half a second a step
    assert running.seconds_left == pytest.approx(0.5 * (6 + 20))


def test_resumed_epoch_counts_the_time_before_but_not_its_images(clock: Clock) -> None:
    running = EpochClock(epoch=0, epochs=1, step=6, steps=10, seconds=30.0)
    steps(running, clock, count=2, seconds=1.0)
    assert running.seconds == pytest.approx(32)
    assert running.images_per_second == pytest.approx(8)
    assert running.seconds_left == pytest.approx(2)


def test_before_the_first_step_nothing_divides_by_zero(clock: Clock) -> None:
    running = EpochClock(epoch=0, epochs=2, step=0, steps=5, seconds=0.0)
    assert running.images_per_second == 0
    assert running.seconds_left == 0


def test_shows_a_few_times_a_second_and_at_the_last_step(clock: Clock) -> None:
    running = EpochClock(epoch=0, epochs=1, step=0, steps=4, seconds=0.0)
    assert not running.shows_now()
    clock.move(SHOW_EVERY_SECONDS)
    assert running.shows_now()
    assert not running.shows_now()
    for _ in range(4):
        running.tick(1)
    assert running.shows_now()


@pytest.mark.parametrize(
    ("ask", "every"), [(EpochClock.saves_now, SAVE_EVERY_SECONDS), (EpochClock.shows_now, SHOW_EVERY_SECONDS)]
)
def test_asks_again_only_after_the_whole_time(
    clock: Clock, ask: Callable[[EpochClock], bool], every: float
) -> None:
    running = EpochClock(epoch=0, epochs=1, step=0, steps=100, seconds=0.0)
    answers = []
    for _ in range(6):
        clock.move(every / 2)
        answers.append(ask(running))
    assert answers == [False, True] * 3


def test_record_counts_from_one(clock: Clock) -> None:
    running = EpochClock(epoch=2, epochs=3, step=0, steps=5, seconds=0.0)
    steps(running, clock, count=3, seconds=1.0)
    record = running.record({"kd": 0.5})
    assert (record.epoch, record.epochs, record.step, record.steps) == (3, 3, 3, 5)
    assert record.terms == {"kd": 0.5}
    assert record.images_per_second == pytest.approx(8)
    assert record.seconds_left == pytest.approx(2)
