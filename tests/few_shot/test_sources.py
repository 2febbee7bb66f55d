from collections.abc import Callable
from pathlib import Path

import pytest

import kdcam
from kdcam.api import recipe_of
from kdcam.errors import DataError
from kdcam.few_shot.settings import FewShotSettings
from kdcam.few_shot.sources import check_unseen, has_unseen_classes, in_folder, split_off
from kdcam.progress import Silent


def test_a_runs_own_split_gives_what_it_was_not_trained_on(split_runs: tuple[Path, Path]) -> None:
    recipe = recipe_of(split_runs[0])
    assert has_unseen_classes(recipe)
    novel = split_off(recipe, FewShotSettings(), progress=Silent())
    validation = split_off(recipe, FewShotSettings(classes="validation"), progress=Silent())
    trained = kdcam.load(split_runs[0]).label_names
    assert sorted([*novel.label_names, *validation.label_names, *trained]) == [
        str(digit) for digit in range(10)
    ]
    assert (len(novel.label_names), len(validation.label_names)) == (3, 2)
    assert set(novel.part.targets.tolist()) == {0, 1, 2}
    assert novel.source == "novel classes of digit-scenes"


def test_a_folder_comes_in_the_networks_size_and_channels(
    whole_run: Path, class_folders: Callable[..., Path]
) -> None:
    found = in_folder(class_folders("ant", "bee"), kdcam.load(whole_run), progress=Silent())
    assert found.label_names == ("ant", "bee")
    assert found.part.images.subset(found.part.targets).pixels.shape == (16, 1, 16, 16)


def test_parts_of_a_folder_count_together(whole_run: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders("train/ant", "train/bee", "val/ant", "val/bee", "test/ant", count=3)
    found = in_folder(root, kdcam.load(whole_run), progress=Silent())
    assert found.part.targets.tolist() == [0, 0, 0, 1, 1, 1] * 2 + [0, 0, 0]


def test_overlapping_classes_are_named(whole_run: Path, class_folders: Callable[..., Path]) -> None:
    classifier = kdcam.load(whole_run)
    found = in_folder(class_folders("3", "ant", "7"), classifier, progress=Silent())
    with pytest.raises(DataError, match=r"pictures: .*whole was trained on '3', '7', so its features"):
        check_unseen(found, whole_run, classifier.label_names)
    check_unseen(found, whole_run, ("cat", "dog"))


def test_an_unreadable_picture_is_named(whole_run: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders("ant", "bee")
    (root / "bee" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 16 files cannot be read as pictures: .*3\.png"):
        in_folder(root, kdcam.load(whole_run), progress=Silent())
