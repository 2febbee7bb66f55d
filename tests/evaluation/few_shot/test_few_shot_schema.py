import json
from pathlib import Path

import pytest

from kdcam.errors import RecipeError
from kdcam.evaluation.few_shot.few_shot_schema import (
    EpisodeScores,
    FewShotReport,
    FewShotSettings,
    NovelImages,
    OneShotScores,
    few_shot_settings,
    refuse_without_episodes,
    refuse_without_split,
)

SCORES = EpisodeScores("prototype", 5, 1, 3, "digest", (15, 0, 6))
ONE_SHOT = OneShotScores("prototype", 20, (20, 10), "images")


def test_defaults_are_the_usual_protocol() -> None:
    found = few_shot_settings({})
    assert (found.ways, found.shots, found.queries, found.episodes) == (5, (1, 5), 15, 600)
    assert len(found.heads) == 5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ways": 1}, r"few-shot\.ways \(--ways\): found 1"),
        ({"shots": (1, 0)}, r"few-shot\.shots \(--shots\): found 0; allowed: numbers of images, 1 or more"),
        ({"shots": (1, 1)}, r"few-shot\.shots \(--shots\): 1 stands there more than once"),
        ({"shots": ()}, r"few-shot\.shots \(--shots\): found nothing; name one or more"),
        ({"heads": ("svm",)}, r"few-shot\.heads\[0\] \(--head\): found 'svm'"),
        ({"episode": 3}, r"few-shot: unknown key 'episode'; did you mean 'episodes'"),
        ({"classes": "base"}, r"few-shot\.classes \(--classes\): found 'base'"),
    ],
)
def test_wrong_settings(keys: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        few_shot_settings(keys)


def test_what_would_do_nothing_is_named_by_key_and_flag() -> None:
    usual = few_shot_settings({})
    refuse_without_split(usual)
    refuse_without_episodes(usual, "net")
    with pytest.raises(RecipeError, match=r"classes \(--classes\) does nothing with root \(--root\)"):
        refuse_without_split(few_shot_settings({"classes": "novel"}))
    asked = few_shot_settings({"shots": (5,), "fine_tune_last_stage": True, "seed": 1})
    said = r"few-shot: shots \(--shots\), fine_tune_last_stage \(--fine-tune-last-stage\) would do .*net holds out no"
    with pytest.raises(RecipeError, match=said):
        refuse_without_episodes(asked, "net")


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
        "last",
        FewShotSettings(),
        NovelImages("novel classes of x", ("a", "b"), 40, "targets", "content"),
        (SCORES,),
        (ONE_SHOT,),
    )
    assert list(report.headline()) == ["5-way 1-shot prototype", "Omniglot one-shot error prototype"]
    assert report.headline()["Omniglot one-shot error prototype"]["mean"] == 0.25
    written = json.loads(json.dumps(report.to_json()))
    assert written["headline"] == report.headline()
    assert written["novel"]["classes"] == ["a", "b"]
    assert written["scores"][0]["right"] == [15, 0, 6]
    assert (written["model"], written["weights"]) == ("model", "last")


def test_differences_are_of_equal_episodes_and_runs() -> None:
    def report(*right: int, episodes: str = "digest", images: str = "images") -> FewShotReport:
        scores = EpisodeScores("prototype", 5, 1, 3, episodes, right)
        runs = OneShotScores("prototype", 20, (10, 10), images)
        return FewShotReport(Path("b"), "model", "selected", FewShotSettings(), None, (scores,), (runs,))

    base = FewShotReport(Path("a"), "model", "selected", FewShotSettings(), None, (SCORES,), (ONE_SHOT,))
    found = report(15, 3, 9).differences(base)
    # 0, 0.2, 0.2: s = 0.11547, 1.96 s / sqrt(3); errors 0.5, 0.5 against 0, 0.5
    assert {
        name: (round(one["mean"] or 0, 5), round(one["interval"] or 0, 5)) for name, one in found.items()
    } == {
        "5-way 1-shot prototype": (0.13333, 0.13067),
        "Omniglot one-shot error prototype": (0.25, 0.49),
    }
    assert report(15, 3, 9, episodes="others", images="others").differences(base) == {}


def test_what_the_interval_is_over_is_said() -> None:
    def said(scores: tuple[EpisodeScores, ...], runs: tuple[OneShotScores, ...]) -> str:
        return FewShotReport(Path("a"), "model", "selected", FewShotSettings(), None, scores, runs).to_json()[
            "interval"
        ]

    assert said((SCORES,), ()) == "95 % over the draw of the episodes: 1.96 s / sqrt(n), s with n - 1"
    assert said((), (ONE_SHOT,)).startswith("95 % over Omniglot's one-shot runs: ")
    assert "episodes (of the one-shot error: over Omniglot's" in said((SCORES,), (ONE_SHOT,))
