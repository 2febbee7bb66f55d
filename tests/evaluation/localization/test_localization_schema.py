from typing import Any

import pytest

from kdcam.errors import RecipeError
from kdcam.evaluation.localization.localization_schema import LocalizationSettings, localization_settings


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
        ({"map": "lime"}, r"localize\.map \(--map\): found 'lime'.*cam.*caam.*gradcam"),
        (
            {"n_examples": 0, "resolution": 4},
            r"n_examples \(--n-examples\): .* 1; .*\.resolution \(--r.*at least 8",
        ),
        (
            {"map": "caam", "map_of": "predicted"},
            r"map_of \(--map-of\) = predicted does nothing with map \(--map",
        ),
        (
            {"root": "x"},
            r"root \(--root\) says how boxes of a file are read; name the file with boxes \(--boxes\)",
        ),
        ({"class_column": "x"}, r"class_column \(--class-column\) says how boxes"),
        ({"box_ends": "inclusive"}, r"box_ends \(--box-ends\) says how boxes"),
        (
            {"boxes": "b.csv", "root": "x", "part": "test"},
            r"part \(--part\) = test and root \(--root\) = x name",
        ),
        (
            {"part": "validation", "threshold_from": "validation"},
            r"m \(--threshold-from\) = .* part \(--part\) = val",
        ),
        ({"boxes": "b.csv", "root": "x", "threshold_from": "validation"}, r"remove it, or root \(--root\)$"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        localization_settings(values)
