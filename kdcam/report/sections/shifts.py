"""The sections of robustness.json on corruptions, calibration, other images and label noise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdcam.blocks.document import Block, Table
from kdcam.blocks.wording import (
    MISSING,
    notes_on_runs,
    number_text,
    score_name,
    score_text,
    share_text,
    side_by_side,
)
from kdcam.report.pictures import read_run_picture
from kdcam.report.reported_run import ResultFile
from kdcam.settings.messages import listed

_PICTURES = {"corruptions": "corruptions.png", "corrupted_set": "corrupted-set.png"}

_ShiftCells = dict[tuple[str, ...], str]


def corruption_blocks(found: Sequence[ResultFile], section: str) -> Iterator[Block]:
    """Yield errors by corruption; of a single run by severity, too; and relative to a base run."""
    some = [one for one in found if one.content[section]]
    if not some:
        return
    reports = [one.content[section]["report"] for one in some]
    texts = [(one.run, _corrupted(report)) for one, report in zip(some, reports, strict=True)]
    yield from notes_on_runs(texts, runs=len(found))
    if len(found) == 1:
        yield _by_severity(reports[0])
    else:
        cells = [_mean_errors(report) for report in reports]
        yield Table(_heads("corruption", some), side_by_side(cells), title="mean error under corruptions")
    yield from _relative(some, section)
    for one in some:
        caption = "accuracy, mean over the corruptions, against severity"
        run = one.run if len(found) > 1 else None
        yield from read_run_picture(one.folder, _PICTURES[section], caption, run=run)


def _corrupted(report: Mapping[str, Any]) -> str:
    severities = listed(report["severities"])
    clean = "" if report["clean_acc"] is None else f"; {share_text(report['clean_acc'])} accuracy without any"
    return f"Corruptions: {report['source']}, severities {severities}, {report['subset']} ({report['note']}){clean}."


def _by_severity(report: Mapping[str, Any]) -> Table:
    rows = [
        (row["name"], *(share_text(1 - one) for one in row["accuracies"]), share_text(row["mean_error"]))
        for row in report["rows"]
    ]
    rows.append(("mean", *("" for _ in report["severities"]), share_text(report["mean_error"])))
    columns = ("corruption", *(f"severity {one}" for one in report["severities"]), "mean error")
    return Table(columns, rows, title="error under corruptions")


def _mean_errors(report: Mapping[str, Any]) -> _ShiftCells:
    rows: _ShiftCells = {(row["name"],): share_text(row["mean_error"]) for row in report["rows"]}
    return rows | {(f"mean (of {len(rows)})",): share_text(report["mean_error"])}


def _relative(found: Sequence[ResultFile], section: str) -> Iterator[Block]:
    """Yield a table of errors as multiples of a base run's; a column names its own base."""
    some = [one for one in found if one.content[section]["relative"]]
    if some:
        cells: list[_ShiftCells] = []
        for one in some:
            relative = one.content[section]["relative"]
            rows: _ShiftCells = {("base",): str(one.content[section]["base"])}
            rows |= {(row["name"],): number_text(row["error"], 3) for row in relative["rows"]}
            rows["mean",] = number_text(relative["mean_error"], 3)
            rows["mean, added to the clean error",] = number_text(relative["mean_added_error"], 3)
            cells.append(rows)
        yield Table(
            _heads("corruption", some), side_by_side(cells), title="errors as multiples of a base run's"
        )


def calibration_blocks(found: Sequence[ResultFile]) -> Iterator[Block]:
    """Yield calibration on the test part before and after temperature scaling."""
    if found:
        cells = [_calibration(one.content["calibration"]) for one in found]
        columns = ("calibration", "when", *(one.run for one in found))
        yield Table(columns, side_by_side(cells), title="calibration, test part", left=2)
    for one in found:
        caption = "accuracy against confidence: on the diagonal a classifier is as often right as it is sure"
        yield from read_run_picture(one.folder, "reliability.png", caption, run=_named(found, one))


def _calibration(report: Mapping[str, Any]) -> _ShiftCells:
    cells: _ShiftCells = {}
    for score in ("nll", "brier", "ece", "mce"):
        for when, state in (("as trained", report["before"]), ("at its temperature", report["after"])):
            value = None if state is None else state[score]
            cells[score_name(score), when] = score_text(score, value)
    cells["temperature", "fitted on validation"] = number_text(report["temperature"], 3)
    return cells


def foreign_blocks(found: Sequence[ResultFile]) -> Iterator[Block]:
    """Yield how well runs tell their own images from others."""
    if found:
        cells = [_foreign(one.content["out_of_distribution"]) for one in found]
        columns = ("foreign images", "score", "", *(one.run for one in found))
        title = "own test images told from foreign ones"
        yield Table(columns, side_by_side(cells), title=title, left=3)


def _foreign(section: Mapping[str, Any]) -> _ShiftCells:
    cells: _ShiftCells = {}
    for row in section["report"]["rows"]:
        cells[section["data"], row["score"], "AUROC"] = number_text(row["auroc"], 4)
        cells[section["data"], row["score"], "foreign at 95 % own"] = share_text(row["fpr_at_95"])
    return cells


def noise_blocks(found: Sequence[ResultFile]) -> Iterator[Block]:
    """Yield what became of wrong training labels."""
    if found:
        cells = [_noise(one.content["label_noise"]) for one in found]
        yield Table(_heads("label noise", found), side_by_side(cells), title="label noise in training")
    for one in found:
        caption = "validation accuracy by epoch, whose labels are clean"
        yield from read_run_picture(one.folder, "label-noise.png", caption, run=_named(found, one))
        caption = "accuracy against the rate of wrong training labels"
        yield from read_run_picture(one.folder, "noise-rates.png", caption, run=_named(found, one))


def _noise(report: Mapping[str, Any]) -> _ShiftCells:
    kept = report["memorisation"] or {}
    shares = {
        "wrong labels, nominal": report["nominal_rate"],
        "wrong labels, realised": report["realised_rate"],
        "clean test, selected": report["selected_test_acc"],
        "clean test, last": report["last_test_acc"],
        "wrong labels memorised": kept.get("memorised"),
        "wrong labels recovered": kept.get("recovered"),
        "right labels learned": kept.get("clean_label_acc"),
    }
    cells: _ShiftCells = {("kind",): report["kind"] or MISSING}
    cells |= {(name,): share_text(value) for name, value in shares.items()}
    cells["wrong labels found by their loss (AUROC)",] = number_text(kept.get("wrong_label_auroc"), 3)
    return cells


def _heads(first: str, found: Sequence[ResultFile]) -> tuple[str, ...]:
    return (first, *(one.run for one in found))


def _named(found: Sequence[ResultFile], one: ResultFile) -> str | None:
    return one.run if len(found) > 1 else None


__all__ = ["calibration_blocks", "corruption_blocks", "foreign_blocks", "noise_blocks"]
