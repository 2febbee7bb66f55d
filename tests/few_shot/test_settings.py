import pytest

from kdcam.errors import RecipeError
from kdcam.few_shot.settings import few_shot_settings


def test_defaults_are_the_usual_protocol() -> None:
    found = few_shot_settings({})
    assert (found.ways, found.shots, found.queries, found.episodes) == (5, (1, 5), 15, 600)
    assert len(found.heads) == 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"ways": 1}, r"few-shot\.ways: found 1"),
        ({"shots": (1, 0)}, r"few-shot\.shots: found 0; allowed: numbers of images, 1 or more"),
        ({"shots": (1, 1)}, r"few-shot\.shots: 1 stands there more than once"),
        ({"shots": ()}, r"few-shot\.shots: found nothing; name one or more"),
        ({"heads": ("svm",)}, r"few-shot\.heads.*'svm'"),
        ({"episode": 3}, r"few-shot: unknown key 'episode'; did you mean 'episodes'"),
        ({"classes": "base"}, r"few-shot\.classes: found 'base'"),
    ],
)
def test_wrong_settings(keys: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        few_shot_settings(keys)
