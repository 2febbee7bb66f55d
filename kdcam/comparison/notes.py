"""What must be said beside a comparison's numbers so that nobody reads more into them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kdcam.selection import selection_words
from kdcam.wording import listed

if TYPE_CHECKING:
    from kdcam.comparison.table import Comparison


def selection_notes(comparison: "Comparison") -> Iterator[str]:
    """Yield how the epoch was selected; where the rules of rows differ, one for each with its rows."""
    rules = dict.fromkeys(row.selection for row in comparison.rows)
    for rule in rules:
        rows = listed(row.name for row in comparison.rows if row.selection == rule)
        which = "" if len(rules) == 1 else f" ({rows})"
        yield f"Selected{which}: {selection_words(rule, comparison.score)}"


def tested_note(comparison: "Comparison") -> str | None:
    """Return which part of the data the scores are of; None where no run is done."""
    if any(row.test_selected is not None for row in comparison.rows):
        return (
            "Test scores are of the test part, read for the selected and the last weights after the last epoch of each "
            "run; no epoch was selected on it"
        )
    if all(row.validation_selected is None for row in comparison.rows):
        return None
    biased = any(row.selection == "best" for row in comparison.rows)
    return "There is no test part: scores are of the validation part" + (
        ", on which epochs were selected, so that new images would score less" if biased else ""
    )


def choosing_note(comparison: "Comparison") -> str | None:
    """Return by what settings of a grid are to be chosen; None where there is no grid."""
    if not any(row.settings for row in comparison.rows):
        return None
    if any(row.validation_selected is not None for row in comparison.rows):
        return "Settings of a grid: choose on validation, not on test"
    if comparison.part == "test":
        return (
            "Settings of a grid: do not choose on test; hold a validation part out to choose on "
            "(data.validation = 0.1)"
        )
    return None


def other_data_note(comparison: "Comparison") -> str | None:
    """Return which rows have no difference to the base since their data is other; None where none is."""
    others = [row.name for row in comparison.rows if not row.same_data]
    if not others:
        return None
    return f"No difference to {comparison.base}, trained on other data: {listed(others)}"


__all__ = ["choosing_note", "other_data_note", "selection_notes", "tested_note"]
