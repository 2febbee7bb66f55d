"""The main score of a task, and the rule by which an epoch is selected, in words."""

from typing import Literal

MAIN_SCORES = {"single-label": "acc1", "multi-label": "mean_ap"}
"""The score that a task is judged by, in [0, 1]."""

SCORE_NAMES = {"acc1": "top-1", "mean_ap": "mAP"}
"""The main scores as they are called in the head of a column."""

SCORE_WORDS = {"acc1": "top-1 accuracy", "mean_ap": "mean average precision"}
"""The main scores as they are called in a sentence."""


def selection_words(select: Literal["best", "last"], score: str) -> str:
    """Return which epoch's weights are the selected ones; ``score``: one of `SCORE_WORDS`."""
    if select == "last":
        return "the last epoch; nothing was selected on"
    return (
        f"the epoch of the highest {SCORE_WORDS[score]} on the validation part, ties by the smaller negative "
        "log-likelihood"
    )


__all__ = ["MAIN_SCORES", "SCORE_NAMES", "SCORE_WORDS", "selection_words"]
