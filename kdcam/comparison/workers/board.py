"""What the watcher of a comparison is told while several runs are under way."""

import time
from collections.abc import Mapping
from typing import Any, Literal

from kdcam.runtime.progress import Progress
from kdcam.scores.main_scores import MAIN_SCORES

_ALL_RUNS = "all runs"
_TRAINING = ""
_EPOCH_SECONDS = 60.0  # between two lines on one run's epochs


class ProgressBoard:
    """Hands what the runs tell to one watcher: their bars beside each other, equal lines once."""

    def __init__(self, progress: Progress, *, done: int, total: int, failed: int = 0) -> None:
        self.progress = progress
        self.done, self.failed, self.total = done, failed, total
        self.told: set[str] = set()
        self.bars: dict[str, dict[str, int]] = {}  # run -> piece of work -> its total, while it is shown
        self.epoch_told: dict[str, float] = {}

    def begin(self) -> None:
        """Show how many of the runs are over."""
        self.progress.advance(_ALL_RUNS, self.done + self.failed, self.total)

    def count_text(self, word: str = "") -> str:
        """Return how many runs are done, and how many failed where any did: ``2 of 4 runs, 1 failed``."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.done} of {self.total} runs{word}{failed}"

    def message(self, name: str, text: str) -> None:
        """Tell a line of a run; one that another run told before is left out."""
        if text not in self.told:
            self.told.add(text)
            self.progress.message(f"{name}: {text}")

    def warning(self, name: str, text: str) -> None:
        """Tell a warning of a run; one that another run told before is left out."""
        if text not in self.told:
            self.told.add(text)
            self.progress.warning(f"{name}: {text}")

    def move(self, name: str, done: int, total: int, task: str = _TRAINING) -> None:
        """Show how far a run, or another piece of work in it, is."""
        shown = self.bars.setdefault(name, {})
        shown[task] = total
        if done >= total:
            del shown[task]
        self.progress.advance(f"{name}: {task}" if task else name, done, total)

    def epoch(self, name: str, record: Mapping[str, Any]) -> None:
        """Tell an epoch's result, once a minute for each run: a sign of life where there are no bars."""
        now = time.monotonic()
        if now < self.epoch_told.setdefault(name, now) + _EPOCH_SECONDS:
            return
        self.epoch_told[name] = now
        validation = record["validation"]
        scores = f", validation {main_score_text(validation)}" if validation else ""
        self.progress.message(
            f"{name}: epoch {record['epoch']} of {record['epochs']}{scores}, "
            f"{record['images_per_second']:,.0f} images/s, {record['seconds_left'] / 60:.0f} min left"
        )

    def end(self, name: str, end: Literal["done", "failed", "put off"]) -> None:
        """Take a run's bars away, and count it where it is over."""
        for task, total in dict(self.bars.get(name, {})).items():
            self.move(name, total, total, task)
        self.bars.pop(name, None)
        self.epoch_told.pop(name, None)
        self.done += end == "done"
        self.failed += end == "failed"
        self.begin()


def main_score_text(scores: Mapping[str, float]) -> str:
    """Return the main score of a run in words: top-1 accuracy, or mean average precision for several labels."""
    name = next((one for one in MAIN_SCORES.values() if one in scores), None)
    return "no score" if name is None else f"{name} {scores[name]:.2%}"


__all__ = ["ProgressBoard", "main_score_text"]
