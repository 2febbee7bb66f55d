import pytest
from pydantic import ValidationError

from kdcam.evaluation.few_shot.few_shot_schema import FewShotSettings
from kdcam.settings.validation import key_and_flag, settings_error


def test_a_key_and_its_flag() -> None:
    assert key_and_flag("map_of") == "map_of (--map-of)"
    assert key_and_flag("heads") == "heads (--head)"


def test_what_is_wrong_is_told_with_both() -> None:
    with pytest.raises(ValidationError) as caught:
        FewShotSettings.model_validate({"heads": ["svm"], "ways": 1, "way": 2})
    text = str(settings_error(caught.value, FewShotSettings, command="few-shot"))
    ways, heads, way = text.split("; few-shot")
    assert ways == "few-shot.ways (--ways): found 1; must be at least 2"
    assert heads.startswith(".heads[0] (--head): found 'svm'; allowed: 'prototype'")
    assert way.startswith(": unknown key 'way'; did you mean 'ways'?")
