import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_pages import ReportPage

from kdcam.errors import CheckpointError
from kdcam.report import write_report

Runs = Callable[..., list[Path]]
CHECK = {
    "name": "black_box",
    "passed": False,
    "value": 0.25,
    "limit": 0.01,
    "text": "share that falls to square",
}


def robustness(run: Path) -> dict[str, Any]:
    return json.loads((run / "robustness.json").read_text())


def test_every_section_is_shown(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    found = robustness(run)
    page = ReportPage(write_report([run]))
    for row in found["attacks"]["rows"]:
        assert page.row(row["attack"], f"linf eps {row['eps']:g}", f"{row['robust_acc']:.2%}")
    assert (
        page.row("worst case, each image", "linf eps 0.05")[2] == f"{found['attacks']['worst_case_acc']:.2%}"
    )
    assert "first 12 images" in page.words
    (fog,) = found["corruptions"]["report"]["rows"]
    assert page.row("fog")[1:] == [
        *(f"{1 - acc:.2%}" for acc in fog["accuracies"]),
        f"{fog['mean_error']:.2%}",
    ]
    assert "strengths are kdcam's choice" in page.words
    assert page.row("ECE", "as trained")[2] == f"{found['calibration']['before']['ece']:.2%}"
    energy = found["out_of_distribution"]["report"]["rows"][1]
    assert page.row("digits", "energy", "AUROC")[3] == f"{energy['auroc']:.4f}"
    noise = found["label_noise"]
    assert page.row("wrong labels, realised")[1] == f"{noise['realised_rate']:.2%}"
    assert page.row("wrong labels memorised")[1] == f"{noise['memorisation']['memorised']:.2%}"
    drawn = len(list((run / "figures").iterdir()))
    assert drawn >= 4
    assert len(page.captions) == drawn + 2  # and the learning curves


def test_a_failed_check_cannot_be_overlooked(runs: Runs) -> None:
    both = runs("noisy-0", "noisy-1")
    masking = "this number may be gradient masking"
    passed = {**CHECK, "name": "rounding", "passed": True, "value": None}
    masked = {**robustness(both[0]), "checks": [CHECK, passed], "warning": masking}
    (both[0] / "robustness.json").write_text(json.dumps(masked))
    page = ReportPage(write_report(both[:1]))
    (warning,) = page.warnings
    assert "check black_box failed (share that falls to square: 0.25, limit 0.01)" in warning
    assert warning.endswith(masking)
    assert page.row("warning")[2] == masking
    assert page.row("black_box")[1:] == ["share that falls to square", "0.25", "0.01", "FAILED"]
    assert page.row("rounding")[2:] == ["-", "0.01", "passed"]
    sound = {**masked, "checks": [{**CHECK, "passed": True, "value": 0.0}], "warning": None}
    (both[1] / "robustness.json").write_text(json.dumps(sound))
    page = ReportPage(write_report(both))
    assert [warning.startswith("Warning: noisy-0: check black_box") for warning in page.warnings] == [True]
    assert page.row("warning")[2:] == [masking, ""]
    assert page.row("black_box")[1:] == ["0.25 (limit 0.01) FAILED", "0 (limit 0.01)"]
    assert page.row("rounding")[1:] == ["- (limit 0.01)", "-"]


def test_runs_attacked_otherwise_keep_their_own_rows(runs: Runs) -> None:
    both = runs("noisy-0", "several-0")
    page = ReportPage(write_report(both))
    clean = robustness(both[1])["attacks"]["clean"]
    assert ["clean", "", f"{clean['label_acc']:.2%}"] in page.rows
    assert "worst case, each decision" in page.words
    assert "noisy-0: Attacks: the first 12 images" in page.words


def test_other_pictures_and_broken_ones(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    (run / "figures" / "adversarial.png").rename(run / "figures" / "my_own-maps.png")
    page = ReportPage(write_report([run]))
    assert "Pictures" in page.headings
    assert "my own maps" in page.captions
    (run / "figures" / "my_own-maps.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    with pytest.raises(CheckpointError, match=r"my_own-maps.png: is no whole PNG picture"):
        write_report([run])
