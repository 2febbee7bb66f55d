"""What a long piece of work tells whoever watches it; the library itself prints nothing."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol, TypeVar

from kdcam.errors import Interrupted

_Item = TypeVar("_Item")


class StepRecord(NamedTuple):
    """Where a run stands after some training steps."""

    epoch: int  # counted from 1
    epochs: int
    step: int  # in this epoch, counted from 1
    steps: int  # in an epoch
    terms: Mapping[str, float]  # mean of each loss term over the epoch so far, before its weight
    images_per_second: float
    seconds_left: float  # to the end of the run


class EpochRecord(NamedTuple):
    """The result of one epoch, as it also stands in metrics.jsonl."""

    epoch: int  # counted from 1
    epochs: int
    step: int  # training steps since the start of the run
    learning_rate: float
    terms: Mapping[str, float]  # mean of each loss term over the epoch, before its weight
    validation: Mapping[str, float]  # acc1, nll ...; empty where no part is held out
    images_per_second: float
    seconds: float  # of this epoch
    seconds_left: float  # to the end of the run
    best: bool  # whether this epoch's weights are now the selected ones


class Progress(Protocol):
    """A watcher of a run; every method may do nothing."""

    def message(self, text: str) -> None:
        """Take a line worth reading once."""

    def warning(self, text: str) -> None:
        """Take a line that the user should act on."""

    def step(self, record: StepRecord) -> None:
        """Take the state after a training step (called a few times a second at most)."""

    def epoch(self, record: EpochRecord) -> None:
        """Take the result of an epoch."""

    def advance(self, task: str, done: int, total: int) -> None:
        """Take how much of a named piece of work other than training is done."""

    def should_stop(self) -> bool:
        """Return whether the work should end at the next safe point, its state kept."""


class Silent:
    """A watcher that ignores everything."""

    def message(self, text: str) -> None:
        """Ignore."""

    def warning(self, text: str) -> None:
        """Ignore."""

    def step(self, record: StepRecord) -> None:
        """Ignore."""

    def epoch(self, record: EpochRecord) -> None:
        """Ignore."""

    def advance(self, task: str, done: int, total: int) -> None:
        """Ignore."""

    def should_stop(self) -> bool:
        """Return False."""
        return False


def until_stopped(items: Iterable[_Item], progress: Progress) -> Iterator[_Item]:
    """Yield the items of work that keeps nothing; ``Interrupted`` where the watcher asks to stop."""
    for item in items:
        if progress.should_stop():
            raise Interrupted("stopped, nothing was written")
        yield item


__all__ = ["EpochRecord", "Progress", "Silent", "StepRecord", "until_stopped"]
