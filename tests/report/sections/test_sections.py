from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from report_pages import ReportPage

from kdcam.blocks.document import Note, Section, Table
from kdcam.report import sections, write_report
from kdcam.report.reported_run import ResultFile


def made_up(found: Sequence[ResultFile]) -> Section:
    rows = [[one.run, str(one.content["score"])] for one in found]
    return Section("Made up", (Note(f"of {len(found)} runs"), Table(("run", "score"), rows)))


def test_one_line_adds_a_section(runs: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "SECTIONS", {**sections.SECTIONS, "made-up.json": made_up})
    both = runs("noisy-0", "noisy-1")
    (both[1] / "made-up.json").write_text('{"score": "<b>7</b>"}')
    page = ReportPage(write_report(both))
    assert "Made up" in page.headings
    assert "of 1 runs" in page.words
    assert page.row("noisy-1", "<b>7</b>")
