from pathlib import Path

import pytest

from kdcam.comparison.plan.comparison_plan import (
    folder_of,
    label_of,
    source_identity,
    source_labels,
    unique_names,
)


def test_a_recipe_is_called_by_its_stem() -> None:
    assert source_labels(["a/photos.toml", "digits"]) == {"a/photos.toml": "photos", "digits": "digits"}


def test_equal_stems_take_their_folders() -> None:
    labels = source_labels(["a/one/photos.toml", "b/one/photos.toml"])
    assert list(labels.values()) == ["a-one-photos", "b-one-photos"]


def test_a_label_says_only_what_differs() -> None:
    settings = ("loss.cam.weight=3", "epochs=2")
    assert label_of("photos", "kd", settings, several=False) == "kd-cam.weight=3-epochs=2"
    assert label_of("photos", "kd", (), several=True) == "photos-kd"
    assert label_of("photos", None, (), several=False) == "photos"


def test_a_folder_says_all_in_one_order() -> None:
    settings = ("epochs=2", "loss.cam.weight=3")
    for order in (settings, settings[::-1]):
        assert folder_of("a/photos.toml", "kd", order) == "photos-kd-epochs=2-cam.weight=3"
    assert folder_of("a/photos.toml", None, ()) == "photos"


def test_names_are_safe_for_folders() -> None:
    labels = [
        'data.augment=["crop", "flip"]',
        "data.augment=[]",
        "checkpoint=../runs/a b",
        "..",
        "ä?" * 300,
        "größe=1",
    ]
    names = unique_names(labels, labels)
    assert names[:4] == ["data.augment=crop_flip", "data.augment=[]", "checkpoint=.._runs_ab", "row"]
    assert names[5] == "größe=1"
    assert all(len(name) <= 60 and "/" not in name for name in names)


def test_names_that_would_meet_are_told_apart_whatever_else_there_is() -> None:
    names = unique_names(["kd", "KD", "dkd"], ["one", "other", "third"])
    assert len({name.casefold() for name in names}) == 3
    assert names[2] == "dkd"
    assert unique_names(["kd", "KD"], ["one", "other"]) == names[:2]


def test_a_recipe_is_the_same_however_its_path_is_spelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spellings = (
        "a/photos.toml",
        "./a/photos.toml",
        "a/b/../photos.toml",
        str(tmp_path / "a" / "photos.toml"),
    )
    assert len({source_identity(one) for one in spellings}) == 1
    assert source_identity("small/mnist") == "small/mnist"  # a shipped one


def test_long_names_keep_apart() -> None:
    names = unique_names(["x" * 100, "x" * 101], ["one", "other"])
    assert names[0] != names[1]
    assert all(len(name) == 60 for name in names)
