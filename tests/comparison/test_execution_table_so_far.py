"""The table that stands while runs are under way, and what of the one before it is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import Watcher

from kdcam.comparison.execution import _TableWriter, compare
from kdcam.comparison.plan.comparison_plan import plan_comparison
from kdcam.comparison.table.aggregation import build_comparison
from kdcam.comparison.table.output_folder import prepare_output, write_comparison

pytestmark = pytest.mark.usefixtures("forked_workers")


def test_a_table_so_far_stands_while_others_run(scenes: str, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Looking(Watcher):
        def advance(self, task: str, done: int, total: int) -> None:
            if (tmp_path / "out" / "comparison.json").exists():
                seen.append(json.loads((tmp_path / "out" / "comparison.json").read_text()))

    compare([scenes], seeds=(0, 1), output=tmp_path / "out", progress=Looking())
    assert seen[0]["rows"][0]["seeds"] == [0]
    assert seen[0]["missing"] == ["scenes-1"]


def test_a_run_that_failed_is_told_while_others_run(scenes: str, photos: str, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    class Looking(Watcher):
        def advance(self, task: str, done: int, total: int) -> None:
            if task == "scenes-0":
                seen.append(json.loads((tmp_path / "out" / "comparison.json").read_text()))

    compare([photos, scenes], seeds=(0,), output=tmp_path / "out", progress=Looking())
    assert [run["name"] for run in seen[0]["failed"]] == ["photos-0"]
    assert seen[0]["missing"] == ["scenes-0"]


def test_the_table_of_before_is_kept_and_told_once(tmp_path: Path) -> None:
    prepare_output(tmp_path)
    progress, tables = Watcher(), []
    writer = _TableWriter(plan_comparison(["digits"]), tmp_path, {}, progress, ())
    for epochs in (1, 2):  # as another comparison in the same folder would write
        other = build_comparison(plan_comparison(["digits"], grid=[f"epochs={epochs}"]), {}, {})
        write_comparison(tmp_path, other, keeps_previous=False)
        tables.append((tmp_path / "comparison.md").read_text())
        writer.write({})
    assert len(progress.warnings) == 1
    assert "lacks (epochs=1)" in progress.warnings[0]
    assert (tmp_path / "comparison-previous.md").read_text() == tables[0]
