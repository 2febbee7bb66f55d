"""robustness.json as a section: attacks and their checks, corruptions, calibration, other images, label noise."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdcam.blocks.document import (
    MISSING,
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
from kdcam.report.reported_run import ResultFile, run_pictures
from kdcam.scores.main_scores import score_name, score_text
from kdcam.settings.messages import eps_text, failed_check_text, listed

_MULTI_LABEL_SCORES = {  # key -> title, and what the worst case is counted over
    "label_acc": ("label accuracy (decisions at probability 0.5)", "decision"),
    "mean_ap": ("mean average precision", None),
    "exact_acc": ("exact accuracy (images with all decisions right)", "image"),
}
_CORRUPTION_PICTURES = {"corruptions": "corruptions.png", "corrupted_set": "corrupted-set.png"}


def robustness_section(found: Sequence[ResultFile]) -> Section:
    """Return what robustness.json says of runs, a column a run; failed checks come first."""
    blocks = [
        *_warnings(found),
        *_weights(found),
        *_attacks(found),
        *_checks(found),
        *_corruptions(found, "corruptions"),
        *_corruptions(found, "corrupted_set"),
        *_calibrations([one for one in found if one.content["calibration"]]),
        *_foreign_images([one for one in found if one.content["out_of_distribution"]]),
        *_label_noise([one for one in found if one.content["label_noise"]]),
    ]
    return Section("Robustness", tuple(blocks))


def _weights(found: Sequence[ResultFile]) -> Iterator[Note]:
    for weights in dict.fromkeys(one.content["weights"] for one in found):
        runs = listed(one.run for one in found if one.content["weights"] == weights)
        yield Note(f"Of the {weights} weights of {runs}.")


def _warnings(found: Sequence[ResultFile]) -> Iterator[Note]:
    for one in found:
        for check in one.content["checks"]:
            if not check["passed"]:
                measured = (check["name"], check["text"], check["value"], check["limit"])
                text = failed_check_text(*measured, warning=one.content["warning"])
                yield Note(text if len(found) == 1 else f"{one.run}: {text}", warning=True)


def _attacks(found: Sequence[ResultFile]) -> Iterator[Block]:
    some = [one for one in found if one.content["attacks"]]
    several = [one for one in some if one.content["attacks"].get("task") == "multi-label"]
    single = [one for one in some if one not in several]
    yield from notes_on_runs([(one.run, _attacked(one.content["attacks"])) for one in some], runs=len(found))
    if single:
        cells = [_accuracies(one.content["attacks"]) for one in single]
        yield _table("accuracy under attack", single, cells)
    if several:
        for score, (title, counted) in _MULTI_LABEL_SCORES.items():
            cells = [_scores(one.content["attacks"], score, counted) for one in several]
            yield _table(f"{title} under attack", several, cells)
    if some:
        cells = [_passes(one.content["attacks"]) for one in some]
        title = "passes an image attacked: forward + backward"
        yield Table(("attack", "budget", *_names(some)), side_by_side(cells), title=title, left=2)
    captions = {
        "robustness-eps.png": "accuracy under all attacks against eps",
        "adversarial.png": "attacked images: before and after, with the class activation maps of the label, and the "
        "change",
    }
    yield from run_pictures(some, captions, named=len(found) > 1)


def _attacked(report: Mapping[str, Any]) -> str:
    wrong = (
        ""
        if report.get("task") == "multi-label"
        else "; images that were wrong from the start count as wrong"
    )
    return f"Attacks: {report['subset']}{wrong}; they raise the {report['loss']}; eps in [0, 1] pixel units."


def _accuracies(report: Mapping[str, Any]) -> CellsByHead:
    cells: CellsByHead = {("clean", ""): share_text(report["clean_acc"])}
    for row in report["rows"]:
        budget = eps_text(row["norm"], row["eps"])
        cells[row["attack"], budget] = share_text(row["robust_acc"])
        for stage in row["stages"]:
            cells[f"{row['attack']}, after {stage['attack']}", budget] = share_text(stage["robust_acc"])
    return cells | _worst(report, "image", "worst_case_acc")


def _scores(report: Mapping[str, Any], score: str, counted: str | None) -> CellsByHead:
    cells: CellsByHead = {("clean", ""): share_text(report["clean"][score])}
    for row in report["rows"]:
        cells[row["attack"], eps_text(row["norm"], row["eps"])] = share_text(row["scores"][score])
    return cells if counted is None else cells | _worst(report, counted, f"worst_case_{score}")


def _worst(report: Mapping[str, Any], counted: str, key: str) -> CellsByHead:
    """Return what is left under all attacks of a budget and the smaller ones; nothing where there is but one."""
    if len(report["rows"]) < 2:
        return {}
    norm = report["rows"][0]["norm"]
    return {
        (f"worst case, each {counted}", eps_text(norm, point["eps"])): share_text(point[key])
        for point in report["curve"]
    }


def _passes(report: Mapping[str, Any]) -> CellsByHead:
    return {(row["attack"], eps_text(row["norm"], row["eps"])): _passes_text(row) for row in report["rows"]}


def _passes_text(row: Mapping[str, Any]) -> str:
    if row["forwards"] is None or row["backwards"] is None:
        return MISSING
    return f"{row['forwards']:,.1f} + {row['backwards']:,.1f}"


def _table(title: str, found: Sequence[ResultFile], cells: Sequence[CellsByHead]) -> Table:
    """Return a table with a last row of warnings, where a run's checks failed."""
    rows = side_by_side(cells)
    masked = [one.content["warning"] or "" for one in found]
    if any(masked):
        rows.append(("warning", "", *masked))
    return Table(("attack", "budget", *_names(found)), rows, title=title, left=2)


def _checks(found: Sequence[ResultFile]) -> Iterator[Block]:
    some = [one for one in found if one.content["checks"]]
    title = "can the attacks be believed?"
    if len(found) == 1 and some:
        columns = ("check", "what was measured", "value", "limit", "result")
        yield Table(columns, [_check_row(check) for check in found[0].content["checks"]], title=title, left=2)
    elif some:
        cells = [_check_cells(one.content["checks"]) for one in some]
        yield Table(("check", *_names(some)), side_by_side(cells), title=title)


def _check_row(check: Mapping[str, Any]) -> tuple[str, ...]:
    value = MISSING if check["value"] is None else f"{check['value']:.3g}"
    result = "passed" if check["passed"] else "FAILED"
    return check["name"], check["text"], value, f"{check['limit']:.3g}", result


def _check_cells(checks: Sequence[Mapping[str, Any]]) -> CellsByHead:
    return {(check["name"],): _check_text(check) for check in checks}


def _check_text(check: Mapping[str, Any]) -> str:
    value = MISSING if check["value"] is None else f"{check['value']:.3g}"
    at = "" if check.get("eps") is None else f", eps {check['eps']:.3g}"
    return f"{value} (limit {check['limit']:.3g}{at})" + ("" if check["passed"] else " FAILED")


def _corruptions(found: Sequence[ResultFile], section: str) -> Iterator[Block]:
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
        yield Table(("corruption", *_names(some)), side_by_side(cells), title="mean error under corruptions")
    yield from _relative(some, section)
    captions = {_CORRUPTION_PICTURES[section]: "accuracy, mean over the corruptions, against severity"}
    yield from run_pictures(some, captions, named=len(found) > 1)


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


def _mean_errors(report: Mapping[str, Any]) -> CellsByHead:
    rows: CellsByHead = {(row["name"],): share_text(row["mean_error"]) for row in report["rows"]}
    return rows | {(f"mean (of {len(rows)})",): share_text(report["mean_error"])}


def _relative(found: Sequence[ResultFile], section: str) -> Iterator[Block]:
    """Yield a table of errors as multiples of a base run's; each column has a base of its own."""
    some = [one for one in found if one.content[section]["relative"]]
    if some:
        cells: list[CellsByHead] = []
        for one in some:
            relative = one.content[section]["relative"]
            rows: CellsByHead = {("base",): str(one.content[section]["base"])}
            rows |= {(row["name"],): number_text(row["error"], 3) for row in relative["rows"]}
            rows["mean",] = number_text(relative["mean_error"], 3)
            rows["mean, added to the clean error",] = number_text(relative["mean_added_error"], 3)
            cells.append(rows)
        yield Table(
            ("corruption", *_names(some)), side_by_side(cells), title="errors as multiples of a base run's"
        )


def _calibrations(found: Sequence[ResultFile]) -> Iterator[Block]:
    """Yield calibration on the test part before and after temperature scaling."""
    if found:
        cells = [_calibration(one.content["calibration"]) for one in found]
        columns = ("calibration", "when", *_names(found))
        yield Table(columns, side_by_side(cells), title="calibration, test part", left=2)
    caption = "accuracy against confidence: on the diagonal a classifier is as often right as it is sure"
    yield from run_pictures(found, {"reliability.png": caption}, named=len(found) > 1)


def _calibration(report: Mapping[str, Any]) -> CellsByHead:
    cells: CellsByHead = {}
    for score in ("nll", "brier", "ece", "mce"):
        for when, state in (("as trained", report["before"]), ("at its temperature", report["after"])):
            value = None if state is None else state[score]
            cells[score_name(score), when] = score_text(score, value)
    cells["temperature", "fitted on validation"] = number_text(report["temperature"], 3)
    return cells


def _foreign_images(found: Sequence[ResultFile]) -> Iterator[Block]:
    """Yield how well runs tell their own images from others."""
    if found:
        cells = [_foreign(one.content["out_of_distribution"]) for one in found]
        columns = ("foreign images", "score", "", *_names(found))
        title = "own test images told from foreign ones"
        yield Table(columns, side_by_side(cells), title=title, left=3)


def _foreign(section: Mapping[str, Any]) -> CellsByHead:
    cells: CellsByHead = {}
    for row in section["report"]["rows"]:
        cells[section["data"], row["score"], "AUROC"] = number_text(row["auroc"], 4)
        cells[section["data"], row["score"], "foreign at 95 % own"] = share_text(row["fpr_at_95"])
    return cells


def _label_noise(found: Sequence[ResultFile]) -> Iterator[Block]:
    """Yield what became of wrong training labels."""
    if found:
        cells = [_noise(one.content["label_noise"]) for one in found]
        yield Table(("label noise", *_names(found)), side_by_side(cells), title="label noise in training")
    captions = {
        "label-noise.png": "validation accuracy by epoch, whose labels are clean",
        "noise-rates.png": "accuracy against the rate of wrong training labels",
    }
    yield from run_pictures(found, captions, named=len(found) > 1)


def _noise(report: Mapping[str, Any]) -> CellsByHead:
    memorisation = report["memorisation"] or {}
    shares = {
        "wrong labels, nominal": report["nominal_rate"],
        "wrong labels, realised": report["realised_rate"],
        "clean test, selected": report["selected_test_acc"],
        "clean test, last": report["last_test_acc"],
        "wrong labels memorised": memorisation.get("memorised"),
        "wrong labels recovered": memorisation.get("recovered"),
        "right labels learned": memorisation.get("clean_label_acc"),
    }
    cells: CellsByHead = {("kind",): report["kind"] or MISSING}
    cells |= {(name,): share_text(value) for name, value in shares.items()}
    cells["wrong labels found by their loss (AUROC)",] = number_text(memorisation.get("wrong_label_auroc"), 3)
    return cells


def _names(found: Sequence[ResultFile]) -> tuple[str, ...]:
    return tuple(one.run for one in found)


__all__ = ["robustness_section"]
