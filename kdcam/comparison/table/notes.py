"""What must be said beside a comparison's numbers so that nobody reads more into them."""

from collections.abc import Iterator

from kdcam.comparison.table.comparison_result import ComparisonResult
from kdcam.scores.main_scores import SCORE_WORDS, selection_words
from kdcam.settings.messages import listed


def notes_of(comparison: ComparisonResult) -> Iterator[str]:
    """Yield all that a reader of the tables must know, a sentence each."""
    measure = SCORE_WORDS[comparison.score]
    yield f"Scores: {measure} in per cent, mean ± sample standard deviation over the seeds that are done."
    yield from (f"{note}." for note in selection_notes(comparison))
    yield from (f"{note}." for note in (tested_note(comparison), choosing_note(comparison)) if note)
    if any(row.difference is not None for row in comparison.rows):
        yield (
            f"Difference: of the selected {comparison.part} score, in percentage points, paired by seed (n pairs), "
            "with Student's 95 % interval of the mean; it is not corrected for the number of rows."
        )
    if other_data := other_data_note(comparison):
        yield f"{other_data}."
    if any(row.agreement is not None for row in comparison.rows):
        yield from _agreement_notes(comparison)
    if comparison.level is not None:
        yield (
            f"Epochs to {comparison.level * 100:.2f} %: the first epoch whose validation score is at least that of "
            f"{comparison.base} after its last epoch (mean over its seeds); median over the runs, where never counts "
            "as infinite (in brackets how many get there)."
        )
    yield (
        "images/s and seconds: of training; median and sum over the epochs, mean over the seeds, as each run was made; "
        "runs side by side share the machine."
    )
    if solved := [row.name for row in comparison.rows if row.solved]:
        yield (
            f"Linear probes ({listed(solved)}): the classifier was solved on features computed once, so there are no "
            "epochs to select and no training speed; selected and last are the same, seconds are of the features and "
            "the fits."
        )
    if any(row.evaluations for row in comparison.rows):
        yield from _evaluation_notes(comparison)
    yield from (f"Left out: {one}." for one in comparison.left_out)
    yield from (f"Published ({number}): {source}" for source, number in footnotes(comparison).items())


def _evaluation_notes(comparison: ComparisonResult) -> Iterator[str]:
    yield (
        "Evaluations after training: of the selected weights, mean ± sample standard deviation over the seeds (n where "
        f"not all have been evaluated); difference to {comparison.base} paired by seed, with Student's 95 % interval."
    )
    if any(name.startswith("few-shot/") for row in comparison.rows for name in row.evaluations):
        yield "Few-shot: all runs are asked the same episodes."
    if any(score.over == "episodes" for row in comparison.rows for score in row.evaluations.values()):
        yield (
            "Over episodes: one seed alone is common to both rows, so the interval (1.96 standard errors) is of "
            "the differences in each episode: over the draw of the episodes, not over training seeds."
        )


def _agreement_notes(comparison: ComparisonResult) -> Iterator[str]:
    teachers = dict.fromkeys(row.agreement_teacher for row in comparison.rows if row.agreement is not None)
    same, divergence = (
        ("share of test images with one top class", "KL(teacher || student)")
        if comparison.score == "acc1"
        else (
            "share of (image, class) decisions that are alike on the test part",
            "mean binary KL(teacher || student)",
        )
    )
    yield f"Agreement of the selected weights with the teacher ({listed(teachers)}): {same}; {divergence}."
    if any(row.cam_similarity is not None for row in comparison.rows):
        yield (
            "Similarity: Pearson's correlation over the positions, mean over the test images: of both class activation "
            "maps of the label (CAM), and of the student's class-agnostic one and the teacher's CAM (CAAM-CAM)."
        )


def footnotes(comparison: ComparisonResult) -> dict[str, int]:
    """Return the sources of published numbers with the numbers that stand for them, from 1 on."""
    sources = dict.fromkeys(str(row.published["source"]) for row in comparison.rows if row.published)
    return {source: number for number, source in enumerate(sources, start=1)}


def selection_notes(comparison: ComparisonResult) -> Iterator[str]:
    """Yield how the epoch was selected; where the rules of rows differ, one for each with its rows."""
    rules = dict.fromkeys(row.selection for row in comparison.rows)
    for rule in rules:
        rows = listed(row.name for row in comparison.rows if row.selection == rule)
        which = "" if len(rules) == 1 else f" ({rows})"
        yield f"Selected{which}: {selection_words(rule, comparison.score)}"


def tested_note(comparison: ComparisonResult) -> str | None:
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


def choosing_note(comparison: ComparisonResult) -> str | None:
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


def other_data_note(comparison: ComparisonResult) -> str | None:
    """Return which rows have no difference to the base since their data is other; None where none is."""
    others = [row.name for row in comparison.rows if not row.same_data]
    if not others:
        return None
    return f"No difference to {comparison.base}, trained on other data: {listed(others)}"


__all__ = ["choosing_note", "footnotes", "notes_of", "other_data_note", "selection_notes", "tested_note"]
