"""The main score of a task, and the rule by which an epoch is selected, in words."""

from typing import Literal

from kdcam.blocks.document import number_text, share_text

MAIN_SCORES = {"single-label": "acc1", "multi-label": "mean_ap"}
"""The score that a task is judged by, in [0, 1]."""

SCORE_NAMES = {"acc1": "top-1", "mean_ap": "mAP"}
"""The main scores as they are called in the head of a column."""

SCORE_WORDS = {"acc1": "top-1 accuracy", "mean_ap": "mean average precision"}
"""The main scores as they are called in a sentence."""

_COLUMN_NAMES = {
    **SCORE_NAMES,
    "acc5": "top-5",
    "mean_class_acc": "mean class accuracy",
    "label_acc": "label accuracy",
    "micro_f1": "F1 of all decisions",
    "macro_f1": "F1, mean over classes",
    "nll": "NLL (nats)",
    "brier": "Brier score",
    "ece": "ECE",
    "mce": "MCE",
}
_NO_SHARES = frozenset({"nll", "brier"})


def selection_words(select: Literal["best", "last"], score: str) -> str:
    """Return which epoch's weights are the selected ones; ``score``: one of `SCORE_WORDS`."""
    if select == "last":
        return "the last epoch; nothing was selected on"
    return (
        f"the epoch of the highest {SCORE_WORDS[score]} on the validation part, ties by the smaller negative "
        "log-likelihood"
    )


def score_name(key: str) -> str:
    """Return how a score is called in a table, its key where it has no other name."""
    return _COLUMN_NAMES.get(key, key)


def score_text(key: str, value: float | None) -> str:
    """Return a score as it is shown: shares as percentages."""
    return number_text(value, 4) if key in _NO_SHARES else share_text(value)


__all__ = ["MAIN_SCORES", "SCORE_NAMES", "SCORE_WORDS", "score_name", "score_text", "selection_words"]
