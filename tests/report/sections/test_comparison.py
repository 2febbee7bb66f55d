import json
from html import unescape
from pathlib import Path

import pytest
from made_up_runs import evaluated, measures, plan_of
from report_pages import ReportPage

from kdcam.comparison.table.aggregation import build_comparison
from kdcam.comparison.table.output_folder import write_comparison
from kdcam.errors import CheckpointError
from kdcam.recipe.recipe_fields import Published
from kdcam.report import write_report


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    plan = plan_of(
        ["base", "<i>other"], (0, 1), published={"base": Published(accuracy=81.5, source="a paper")}
    )
    runs = {
        "base-0": measures(0.80, curve=(0.5, 0.7)),
        "base-1": measures(0.82, curve=(0.4, 0.6)),
        "<i>other-0": measures(0.90, curve=(0.6, 0.9)),
    }
    built = build_comparison(
        plan, runs, {"<i>other-1": "a loss is\nno number"}, command=["kdcam", "compare", "x y"]
    )
    (tmp_path / "table" / "runs").mkdir(parents=True)
    write_comparison(tmp_path / "table", built)
    return tmp_path / "table"


def test_the_table_is_that_of_compare(comparison: Path) -> None:
    file = write_report([comparison])
    assert file == comparison / "report.html"
    page = ReportPage(file)
    page.assert_alone()
    assert page.headings == ["table", "Comparison"]
    lines = (comparison / "comparison.md").read_text().splitlines()[:4]
    head, _, *rows = ([unescape(cell.strip()) for cell in line.strip("| ").split(" | ")] for line in lines)
    assert page.rows == [head, *([*row, *[""] * (len(head) - len(row))] for row in rows)]
    assert page.row("base")[2] == "81.00 ± 1.41"
    assert "<i>other-1 failed: a loss is no number" in page.warnings[0]
    assert "Published (1): a paper" in page.words
    assert "mean ± sample standard deviation" in page.words
    assert "'x y'" in page.words
    assert len(page.captions) == 1


def test_beside_a_run(comparison: Path, trained: Path, tmp_path: Path) -> None:
    page = ReportPage(write_report([comparison, trained / "noisy-1"], tmp_path / "both.html"))
    assert page.headings[:3] == ["table, noisy-1", "Comparison table", "Scores"]


def test_a_table_of_before_losses_and_evaluations_is_read(comparison: Path) -> None:
    file = comparison / "comparison.json"
    document = json.loads(file.read_text())
    del document["left_out"]
    for row in document["rows"]:
        del row["losses"], row["evaluations"]
    file.write_text(json.dumps(document))
    assert ReportPage(write_report([comparison])).row("base")[2] == "81.00 ± 1.41"


def test_later_evaluations_are_a_table_of_their_own(tmp_path: Path) -> None:
    asked = {"evaluations": evaluated("few-shot", {"5-way 1-shot prototype": 0.5})}
    built = build_comparison(plan_of(["base"], (0,)), {"base-0": measures(0.8, **asked)}, {})
    (tmp_path / "runs").mkdir()
    write_comparison(tmp_path, built)
    page = ReportPage(write_report([tmp_path]))
    assert page.row("few-shot: 5-way 1-shot prototype") == [
        "few-shot: 5-way 1-shot prototype",
        "base",
        "50.00",
    ]
    assert "the same episodes" in page.words


def test_a_damaged_table_is_named(comparison: Path) -> None:
    file = comparison / "comparison.json"
    document = json.loads(file.read_text())
    del document["rows"][1]["folder"]
    for text, said in ((json.dumps(document), r"rows.1.folder: Field required"), ("{", r"is no JSON")):
        file.write_text(text)
        with pytest.raises(CheckpointError, match=rf"comparison.json.*{said}") as stop:
            write_report([comparison])
        assert "\n" not in str(stop.value)
