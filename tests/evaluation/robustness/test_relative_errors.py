"""Tests of kdcam.evaluation.robustness.corruption_report."""

import pytest

from kdcam.errors import DataError
from kdcam.evaluation.robustness.corruption_report import (
    OWN_CORRUPTIONS,
    CorruptionReport,
    CorruptionRow,
    relative_errors,
)


def report(**changes: object) -> CorruptionReport:
    fields: dict[str, object] = {
        "source": OWN_CORRUPTIONS,
        "images": 100,
        "subset": "all",
        "seed": 0,
        "severities": (1, 5),
        "clean_acc": 0.9,
        "rows": (
            CorruptionRow(name="fog", accuracies=(0.8, 0.6), mean_error=0.3),
            CorruptionRow(name="jpeg", accuracies=(0.9, 0.8), mean_error=0.15),
        ),
        "mean_error": 0.225,
        "note": "",
    }
    return CorruptionReport.model_validate(fields | changes)


def test_relative_errors_by_hand() -> None:
    base = report(
        clean_acc=0.95,
        rows=(
            CorruptionRow(name="fog", accuracies=(0.7, 0.1), mean_error=0.6),
            CorruptionRow(name="jpeg", accuracies=(0.85, 0.75), mean_error=0.2),
        ),
    )
    found = relative_errors(report(), base)
    assert [row.error for row in found.rows] == pytest.approx([0.5, 0.75])
    assert found.mean_error == pytest.approx(0.625)
    assert [row.added_error for row in found.rows] == pytest.approx([0.2 / 0.55, 0.05 / 0.15])
    assert found.mean_added_error == pytest.approx((0.2 / 0.55 + 0.05 / 0.15) / 2)


def test_relative_to_itself_is_one_and_to_no_error_is_nothing() -> None:
    found = relative_errors(report(), report())
    assert (found.mean_error, found.mean_added_error) == (1.0, 1.0)
    flawless = report(
        clean_acc=1.0,
        rows=tuple(row.model_copy(update={"mean_error": 0.0}) for row in report().rows),
    )
    found = relative_errors(report(), flawless)
    assert {row.error for row in found.rows} == {row.added_error for row in found.rows} == {None}
    assert found.mean_error is None
    unknown = relative_errors(report(clean_acc=None), report())
    assert (unknown.mean_error, unknown.mean_added_error) == (1.0, None)


def test_relative_to_other_images_is_refused() -> None:
    with pytest.raises(DataError, match=r"images is 100 here and 50 in the base run; evaluate both alike"):
        relative_errors(report(), report(images=50))
    with pytest.raises(DataError, match=r"severities is \(1, 5\) here and \(5, 1\) in the base run"):
        relative_errors(report(), report(severities=(5, 1)))
    with pytest.raises(DataError, match=r"fog, jpeg here and fog in the base run"):
        relative_errors(report(), report(rows=report().rows[:1]))
