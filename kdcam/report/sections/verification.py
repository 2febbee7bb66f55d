"""verification.json as a section: how well runs tell one person from two."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdcam.blocks.document import (
    Block,
    CellsByHead,
    Note,
    Section,
    Table,
    notes_on_runs,
    number_text,
    share_text,
    side_by_side,
)
from kdcam.evaluation.verification.verification_schema import rate_notes, spread_text
from kdcam.report.reported_run import ResultFile, outdated_notes, run_pictures


def verification_section(found: Sequence[ResultFile]) -> Section:
    """Return accuracy, true accept rates and the ROC's numbers, a column a run."""
    runs = tuple(one.run for one in found)
    rows = side_by_side([_scores(one.content) for one in found])
    blocks: list[Block] = [
        *outdated_notes(found),
        *_seen(found),
        *_asked_otherwise(found),
        *notes_on_runs([(one.run, _asked(one.content)) for one in found], runs=len(found)),
        Table(("score", *runs), rows, title="verification"),
        Note(f"± is the {found[0].content['spread']}."),
        *notes_on_runs(
            [(one.run, f"{text}.") for one in found for text in rate_notes(one.content)], runs=len(found)
        ),
        *run_pictures(found, {"roc.png": "ROC of all pairs"}, named=len(found) > 1),
    ]
    return Section("Verification", tuple(blocks))


def _seen(found: Sequence[ResultFile]) -> Iterator[Note]:
    for one in found:
        if one.content["seen"]:
            text = f"{len(one.content['seen'])} people of the pairs were in its training data"
            yield Note(f"{one.run}: {text}: its numbers are not those of new people.", warning=True)
        if one.content["blank"]:
            yield Note(
                f"{one.run}: {one.content['blank']} pictures have an embedding of nothing but zeros.",
                warning=True,
            )


def _asked_otherwise(found: Sequence[ResultFile]) -> Iterator[Note]:
    """Yield a warning where runs were asked different pairs, or in different ways, whatever the files are called."""
    asked = {_question(one.content) for one in found}
    if len(asked) > 1:
        runs = "; ".join(f"{one.run}: pairs {_question(one.content)[0][:12]}" for one in found)
        yield Note(
            "The runs were asked different pairs (SHA-256 of the pictures and folds), or with other settings: their "
            f"numbers are not to be held against each other. {runs}.",
            warning=True,
        )


def _question(content: Mapping[str, Any]) -> tuple[str, bool, str]:
    settings = content["settings"]
    return content["pairs"]["sha256"], settings["flip"], settings["thresholds"]


def _asked(content: Mapping[str, Any]) -> str:
    pairs = content["pairs"]
    flip = "with" if content["settings"]["flip"] else "without"
    return (
        f"Pairs: {pairs['file']}, {pairs['of_one_person']:,} of one person and {pairs['of_two']:,} of two; "
        f"{pairs['pictures']:,} pictures of {pairs['people']:,} people; {pairs['folds']} folds; {flip} the mirrored "
        f"picture's embedding; thresholds: {content['settings']['thresholds']}."
    )


def _scores(content: Mapping[str, Any]) -> CellsByHead:
    headline = content["headline"]
    cells: CellsByHead = {("accuracy",): spread_text(headline["accuracy"], content["accuracy_std"])}
    for one in content["true_accepts"]:
        cells[f"TAR at FAR {one['far']:g}",] = spread_text(one["mean"], one["std"])
        cells[f"TAR at FAR {one['far']:g}, all pairs",] = share_text(one["pooled"])
    cells["AUC",] = number_text(headline["auc"], 4)
    cells["equal error rate",] = share_text(headline["eer"])
    return cells


__all__ = ["verification_section"]
