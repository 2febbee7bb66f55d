"""The sections of few-shot.json, verification.json and localization.json."""

from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
from report_pages import ReportPage

from kdcam.errors import CheckpointError
from kdcam.evaluation.few_shot.few_shot_schema import (
    EpisodeScores,
    FewShotReport,
    FewShotSettings,
    NovelImages,
    OneShotScores,
)
from kdcam.evaluation.localization.box_accuracy import BoxAccuracy, MaxBoxAcc
from kdcam.evaluation.localization.localization_schema import (
    EvaluatedBoxes,
    ExcludedCounts,
    LocalizationReport,
    RunLocalization,
)
from kdcam.evaluation.verification.verification_schema import (
    VerificationReport,
    VerificationSettings,
    verification_scores,
)
from kdcam.files.digests import weights_file_digest
from kdcam.files.json_files import read_json, write_json
from kdcam.report import write_report
from kdcam.runs.run_files import FEW_SHOT_FILE, LOCALIZATION_FILE, VERIFICATION_FILE

Runs = Callable[..., list[Path]]


def model(run: Path) -> str:
    return weights_file_digest(run / "model.safetensors") or ""


def write_few_shot(run: Path, *right: int, episodes: str = "abc") -> None:
    scores = EpisodeScores("prototype", 5, 1, 2, episodes, right)
    novel = NovelImages("novel classes of <b>omniglot", ("a", "b"), 40, "labels", "pixels")
    one_shot = OneShotScores("prototype", 20, (10, 20), "drawings")
    settings = FewShotSettings(episodes=2)
    report = FewShotReport(run, model(run), "selected", settings, novel, (scores,), (one_shot,))
    write_json(run / FEW_SHOT_FILE, report.to_json())


def localization(run: Path, **changes: object) -> RunLocalization:
    best = tuple(BoxAccuracy(overlap, 0.5, 0.25) for overlap in (0.3, 0.5, 0.7))
    values = {
        "images": 1200,
        "maps": 1200,
        "max_box": MaxBoxAcc(0.5, 0.4, best, BoxAccuracy(0.5, 0.4, 0.35)),
        "pointing": 0.75,
        "energy": 0.6,
        "flat_maps": 0,
        "map": "cam",
        "map_of": "label",
        "resolution": 48,
        "contours": "regions",
        "threshold_rule": "best of all",
        "left_out": ExcludedCounts(0, 3, 0, 0),
        "evaluated": EvaluatedBoxes(1200, 1200, "abc"),
    }
    report = LocalizationReport(**values | changes)  # type: ignore[arg-type]
    return RunLocalization(run, model(run), "selected", {"map": "cam"}, report)


def verification(run: Path, seen: tuple[str, ...] = ()) -> VerificationReport:
    distances, folds = numpy.array([0.1, 0.9, 0.2, 0.8]), numpy.array([0, 0, 1, 1])
    settings = VerificationSettings(far=(0.5,))
    scores = verification_scores(distances, numpy.array([True, False, True, False]), folds, settings)
    pairs = {
        "file": "pairs.txt",
        "of_one_person": 2,
        "of_two": 2,
        "pictures": 8,
        "people": 4,
        "folds": 2,
        "sha256": "abc",
    }
    return VerificationReport(run, model(run), "selected", settings, pairs, seen, 0, scores)


def test_few_shot_with_the_difference_by_episode(runs: Runs) -> None:
    both = runs("noisy-0", "noisy-1")
    write_few_shot(both[0], 4, 6)
    write_few_shot(both[1], 5, 8)
    page = ReportPage(write_report(both))
    page.assert_alone()
    assert "Few-shot" in page.headings
    # 1.96 * sd / sqrt(2): of 0.4 and 0.6; of 0.5 and 0.8; of their differences 0.1 and 0.2
    rows = [row for row in page.rows if row[0] == "5-way 1-shot prototype"]
    assert rows[0][1:] == ["50.00 ± 19.60%", "65.00 ± 29.40%"]
    assert rows[1][1:] == ["+15.00 ± 9.80%"]
    assert page.row("prototype") == ["prototype", "25.00 ± 49.00%", "25.00 ± 49.00%"]
    assert "novel classes of <b>omniglot, 40 images of 2 classes; 2 episodes" in page.words
    assert page.warnings == []


def test_other_episodes_make_no_pairs(runs: Runs) -> None:
    both = runs("noisy-0", "noisy-1")
    write_few_shot(both[0], 4, 6)
    write_few_shot(both[1], 5, 8, episodes="others")
    page = ReportPage(write_report(both))
    assert "paired by episode" not in page.words


def test_localization(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    write_json(run / LOCALIZATION_FILE, localization(run).to_json())
    page = ReportPage(write_report([run]))
    page.assert_alone()
    assert page.row("MaxBoxAccV2")[1] == "50.00%"
    assert page.row("at an overlap of 30%")[1] == "50.00% (> 0.25)"
    assert page.row("MaxBoxAcc (V1)")[1] == "40.00% (> 0.35)"
    assert page.row("maps")[1] == "cam, label"
    assert "noisy-0: 3 images whose objects lie outside the middle square." in page.words


def test_verification(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    write_json(run / VERIFICATION_FILE, verification(run, seen=("Ann",)).to_json())
    page = ReportPage(write_report([run]))
    page.assert_alone()
    assert page.row("accuracy")[1] == "75.00 ± 25.00%"
    assert page.row("equal error rate")[1] == "0.00%"
    assert page.row("TAR at FAR 0.5, all pairs")[1] == "100.00%"
    assert "1 people of the pairs were in its training data" in page.warnings[0]
    said = "FAR 0.5 is less than one of the 1 pairs of two that a threshold is found on: it is interpolated"
    assert said in page.words
    content = read_json(run / VERIFICATION_FILE)
    content["pairs"]["of_two"] = 20
    write_json(run / VERIFICATION_FILE, content)
    assert "is less than one of the" not in ReportPage(write_report([run])).words


def test_runs_that_were_asked_different_pairs_are_warned_of(runs: Runs) -> None:
    both = runs("noisy-0", "noisy-1")
    for run in both:
        write_json(run / VERIFICATION_FILE, verification(run).to_json())
    assert ReportPage(write_report(both)).warnings == []
    content = read_json(both[1] / VERIFICATION_FILE)
    content["pairs"]["sha256"] = "others"
    write_json(both[1] / VERIFICATION_FILE, content)
    (warning,) = ReportPage(write_report(both)).warnings
    assert "asked different pairs" in warning
    assert "noisy-0: pairs abc; noisy-1: pairs others" in warning


def test_other_weights_are_warned_of(runs: Runs) -> None:
    (run,) = runs("noisy-0")
    write_json(run / LOCALIZATION_FILE, localization(run).to_json() | {"model": "others"})
    page = ReportPage(write_report([run]))
    assert "noisy-0: of other weights than those selected now" in page.warnings[0]
    assert "of an earlier run" in page.warnings[0]
    last = {"model": "others", "weights": "last"}
    write_json(run / LOCALIZATION_FILE, localization(run).to_json() | last)
    assert "of the last epoch, as asked for" in ReportPage(write_report([run])).warnings[0]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (FEW_SHOT_FILE, "novel"),
        (FEW_SHOT_FILE, "scores"),
        (VERIFICATION_FILE, "pairs"),
        (VERIFICATION_FILE, "seen"),
        (LOCALIZATION_FILE, "headline"),
        (LOCALIZATION_FILE, "left_out"),
    ],
)
def test_a_file_of_another_layout_is_named(runs: Runs, name: str, key: str) -> None:
    (run,) = runs("noisy-0")
    write_few_shot(run, 4, 6)
    write_json(run / LOCALIZATION_FILE, localization(run).to_json())
    write_json(run / VERIFICATION_FILE, verification(run).to_json())
    write_report([run])
    content = read_json(run / name)
    del content[key]
    write_json(run / name, content)
    with pytest.raises(CheckpointError, match=rf"{name}: lacks something .*{key}"):
        write_report([run])
