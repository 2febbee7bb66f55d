import pytest

from kdcam.comparison.table.comparison_result import EpochsToReach
from kdcam.comparison.table.text_formats import (
    difference_text,
    epochs_text,
    percent_text,
    plain_text,
    speed_text,
)
from kdcam.scores.intervals import PairedDifference, Summary


def test_scores() -> None:
    assert percent_text(Summary(0.71234, 0.00456, 3)) == "71.23 ± 0.46"
    assert percent_text(Summary(1.0, None, 1)) == "100.00"
    assert plain_text(Summary(-0.0312, 0.2, 3)) == "-0.031 ± 0.200"
    assert percent_text(None) == plain_text(None) == ""


@pytest.mark.parametrize(("speed", "text"), [(12345.6, "12,346"), (99.95, "100"), (7.123, "7.12")])
def test_speeds(speed: float, text: str) -> None:
    assert speed_text(Summary(speed, None, 1)) == text


def test_differences() -> None:
    assert difference_text(PairedDifference(0.0045, -0.001, 0.01, 3)) == "+0.45 [-0.10, +1.00] (n = 3)"
    assert difference_text(PairedDifference(-0.0045, None, None, 1)) == "-0.45 (n = 1)"
    assert difference_text(None) == ""


def test_epochs() -> None:
    assert epochs_text(EpochsToReach(12.5, 2, 2)) == "12.5"
    assert epochs_text(EpochsToReach(12.5, 2, 3)) == "12.5 (2 of 3)"
    assert epochs_text(EpochsToReach(None, 0, 3)) == "never"
    assert epochs_text(EpochsToReach(None, 1, 3)) == "never (1 of 3)"
    assert epochs_text(None) == ""
