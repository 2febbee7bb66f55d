import json
from pathlib import Path

from kdcam.few_shot.report import EpisodeScores, FewShotReport, NovelImages, OneShotScores
from kdcam.few_shot.settings import FewShotSettings

SCORES = EpisodeScores("prototype", 5, 1, 3, "digest", (15, 0, 6))


def test_shares_and_interval_of_hand_worked_counts() -> None:
    assert SCORES.accuracies == [1, 0, 0.4]
    mean, interval, samples = SCORES.accuracy
    assert round(mean, 6) == 0.466667
    # s = sqrt((0.533^2 + 0.467^2 + 0.067^2) / 2) = 0.503322; 1.96 s / sqrt(3)
    assert interval is not None
    assert round(interval, 5) == 0.56956
    assert samples == 3


def test_headline_and_json() -> None:
    report = FewShotReport(
        Path("runs/a"),
        "model",
        FewShotSettings(),
        NovelImages("novel classes of x", ("a", "b"), 40, "targets"),
        (SCORES,),
        (OneShotScores("prototype", 20, (20, 10)),),
    )
    assert list(report.headline()) == ["5-way 1-shot prototype", "Omniglot one-shot error prototype"]
    assert report.headline()["Omniglot one-shot error prototype"]["mean"] == 0.25
    written = json.loads(json.dumps(report.to_json()))
    assert written["headline"] == report.headline()
    assert written["novel"]["classes"] == ["a", "b"]
    assert written["scores"][0]["right"] == [15, 0, 6]
    assert written["model"] == "model"
