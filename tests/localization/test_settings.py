from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.localization.settings import LocalizationSettings, localization_settings


def test_the_resolution_that_maps_are_brought_to() -> None:
    usual = LocalizationSettings()
    assert usual.resolution_for(image_size=48, drawn=True) == 48
    assert usual.resolution_for(image_size=32, drawn=False) == 224
    asked = localization_settings({"resolution": 100})
    assert (
        asked.resolution_for(image_size=48, drawn=True)
        == asked.resolution_for(image_size=9, drawn=False)
        == 100
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mapp": "cam"}, r"unknown key 'mapp'; did you mean 'map'\?"),
        ({"map": "lime"}, r"map: found 'lime'.*cam.*caam.*gradcam"),
        ({"n_examples": 0, "resolution": 4}, r"n_examples: .*at least 1.*resolution: .*at least 8"),
        ({"map": "caam", "map_of": "predicted"}, r"does nothing with map = caam"),
        ({"root": "x"}, r"root says how boxes of a file are read; name the file with boxes"),
        ({"class_column": "x"}, r"class_column says how boxes"),
        ({"boxes": "b.csv", "root": "x", "part": "test"}, r"part = test and root = x name different images"),
        ({"part": "validation", "threshold_from": "validation"}, r"another part .* or part = validation"),
        ({"boxes": "b.csv", "root": "x", "threshold_from": "validation"}, r"remove it, or root"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        localization_settings(values)
