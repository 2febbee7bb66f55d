"""How fast a run goes and how long it will take."""

import time

from kdcam.runtime.progress import StepRecord

SHOW_EVERY_SECONDS = 0.25
SAVE_EVERY_SECONDS = 600.0  # within an epoch; every epoch's end is kept as well


class EpochClock:
    """The clock of one epoch."""

    def __init__(self, *, epoch: int, epochs: int, step: int, steps: int, seconds: float) -> None:
        """Start the clock at ``step`` of an epoch (both counted from 0) that has already taken ``seconds``."""
        self.epoch, self.epochs, self.step, self.steps = epoch, epochs, step, steps
        self.earlier_seconds = seconds
        self.started = self.shown = self.saved = time.monotonic()
        self.first_step = step
        self.images = 0

    def tick(self, images: int) -> None:
        """Count a step."""
        self.step += 1
        self.images += images

    @property
    def seconds(self) -> float:
        """Seconds of the epoch so far, those before an interruption included."""
        return self.earlier_seconds + time.monotonic() - self.started

    @property
    def images_per_second(self) -> float:
        """Training images a second in this epoch, since the run was started or resumed."""
        return self.images / max(time.monotonic() - self.started, 1e-9)

    @property
    def seconds_left(self) -> float:
        """Seconds to the end of the run at this epoch's pace."""
        a_step = (time.monotonic() - self.started) / max(self.step - self.first_step, 1)
        return a_step * (self.steps - self.step + self.steps * (self.epochs - self.epoch - 1))

    def shows_now(self) -> bool:
        """Return whether it is time to show where the run stands."""
        now = time.monotonic()
        if now - self.shown < SHOW_EVERY_SECONDS and self.step < self.steps:
            return False
        self.shown = now
        return True

    def saves_now(self) -> bool:
        """Return whether it is time to keep the state within the epoch."""
        now = time.monotonic()
        if now - self.saved < SAVE_EVERY_SECONDS:
            return False
        self.saved = now
        return True

    def record(self, terms: dict[str, float]) -> StepRecord:
        """Return where the run stands."""
        return StepRecord(
            self.epoch + 1,
            self.epochs,
            self.step,
            self.steps,
            terms,
            self.images_per_second,
            self.seconds_left,
        )


__all__ = ["EpochClock"]
