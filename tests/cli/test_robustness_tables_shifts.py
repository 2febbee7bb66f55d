"""The tables of corruptions say what they are of."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from kdcam.evaluation.robustness.corruption_report import (
    OWN_CORRUPTIONS,
    CorruptionReport,
    CorruptionRow,
    relative_errors,
)
from kdcam.evaluation.robustness.robustness_file import CorruptionSection


def section(subset: str, **errors: float) -> CorruptionSection:
    rows = tuple(
        CorruptionRow(name=name, accuracies=(1 - error, 1 - error), mean_error=error)
        for name, error in errors.items()
    )
    report = CorruptionReport(
        source=OWN_CORRUPTIONS,
        images=20,
        subset=subset,
        seed=0,
        severities=(1, 5),
        clean_acc=1.0,
        rows=rows,
        mean_error=sum(errors.values()) / len(errors),
        note="a note",
    )
    return CorruptionSection(report=report, base="base", relative=relative_errors(report, report))


def tables(
    module: Callable[[str], ModuleType], *sections: CorruptionSection
) -> list[tuple[str, list[tuple[str, ...]]]]:
    runs = [SimpleNamespace(run=Path(str(number)), corruptions=one) for number, one in enumerate(sections)]
    made = module("robustness_tables").corruption_tables(runs, "corruptions")
    return [(table.title, [tuple(row) for row in table.rows]) for table in made]


def test_titles_say_images_and_severities(module: Callable[[str], ModuleType]) -> None:
    (title, rows), _ = tables(module, section("all 20 images", fog=0.5))
    assert title == f"{OWN_CORRUPTIONS}: error, severities 1, 5, all 20 images (a note)"
    assert rows[-1] == ("mean", "", "", "50.00%")


@pytest.mark.parametrize("gray", [False, True])
def test_means_over_other_corruptions_are_marked(module: Callable[[str], ModuleType], gray: bool) -> None:
    colour = section("all 20 images", fog=0.5, saturation=0.1)
    other = section("the first 20 images", fog=0.4) if gray else colour
    (title, rows), (_, relative) = tables(module, colour, other)
    assert ("all 20 images or the first 20 images" in title) == gray
    assert rows[1] == ("saturation", "10.00%", "-" if gray else "10.00%")
    assert rows[-1] == (("mean", "30.00% (of 2)", "40.00% (of 1)") if gray else ("mean", "30.00%", "30.00%"))
    assert relative[-2] == (("mean", "1.000 (of 2)", "1.000 (of 1)") if gray else ("mean", "1.000", "1.000"))
