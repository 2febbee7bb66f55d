"""How a report writes numbers and names."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from kdcam.blocks.document import Note
from kdcam.scores.main_scores import SCORE_NAMES
from kdcam.settings.messages import listed

MISSING = "-"
"""Stands where there is no number."""

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


def score_name(key: str) -> str:
    """Return how a score is called in a table, its key where it has no other name."""
    return _COLUMN_NAMES.get(key, key)


def score_text(key: str, value: float | None) -> str:
    """Return a score as it is shown: shares as percentages."""
    return number_text(value, 4) if key in _NO_SHARES else share_text(value)


def share_text(value: float | None) -> str:
    """Return a share as a percentage."""
    return MISSING if value is None else f"{value:.2%}"


def number_text(value: float | None, digits: int) -> str:
    """Return a number with so many decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def side_by_side(
    columns: Sequence[Mapping[tuple[str, ...], str]],
) -> list[tuple[str, ...]]:
    """Return rows of a table: the words of a key, then a cell a column; columns may lack keys."""
    keys = dict.fromkeys(key for column in columns for key in column)
    return [(*key, *(column.get(key, MISSING) for column in columns)) for key in keys]


def notes_on_runs(texts: Iterable[tuple[str, str]], *, runs: int) -> Iterator[Note]:
    """Yield what is to be said of runs: once where all have the same, else with the names of those that have it.

    Args:
        texts: pairs of a run's name and what is to be said of it.
        runs: how many there are, also those of which nothing is to be said.
    """
    by_text: dict[str, list[str]] = {}
    for run, text in texts:
        by_text.setdefault(text, []).append(run)
    for text, names in by_text.items():
        yield Note(text if len(names) == runs else f"{listed(names)}: {text}")


__all__ = [
    "MISSING",
    "notes_on_runs",
    "number_text",
    "score_name",
    "score_text",
    "share_text",
    "side_by_side",
]
