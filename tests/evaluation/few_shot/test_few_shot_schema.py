import pytest

from kdcam.errors import RecipeError
from kdcam.evaluation.few_shot.few_shot_schema import (
    few_shot_settings,
    refuse_without_episodes,
    refuse_without_split,
)


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
