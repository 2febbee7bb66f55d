import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import kdcam
from kdcam.data.datasets import load_source
from kdcam.data.source_configs import ImageFolderConfig
from kdcam.errors import DataError
from kdcam.evaluation.few_shot.episode_classes import (
    check_unseen,
    content_digest,
    has_unseen_classes,
    unseen_in_folder,
    unseen_of_split,
)
from kdcam.recipe.train_recipe import read_recipe
from kdcam.runs.open_run import recipe_of
from kdcam.runtime.progress import Silent


def test_a_runs_own_split_gives_what_it_was_not_trained_on(split_runs: tuple[Path, Path]) -> None:
    recipe = recipe_of(split_runs[0])
    assert has_unseen_classes(recipe)
    trained = kdcam.load(split_runs[0]).label_names
    novel = unseen_of_split(split_runs[0], recipe.data, "novel", trained, progress=Silent())
    validation = unseen_of_split(split_runs[0], recipe.data, "validation", trained, progress=Silent())
    assert sorted([*novel.label_names, *validation.label_names, *trained]) == [
        str(digit) for digit in range(10)
    ]
    assert (len(novel.label_names), len(validation.label_names)) == (3, 2)
    assert set(novel.part.targets.tolist()) == {0, 1, 2}
    assert novel.source == "novel classes of digit-scenes"


def test_a_folder_comes_in_the_networks_size_and_channels(
    whole_run: Path, class_folders: Callable[..., Path]
) -> None:
    found = unseen_in_folder(class_folders("ant", "bee"), kdcam.load(whole_run), progress=Silent())
    assert found.label_names == ("ant", "bee")
    assert found.part.images.subset(found.part.targets).pixels.shape == (16, 1, 16, 16)


def test_parts_of_a_folder_count_together(whole_run: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders("train/ant", "train/bee", "val/ant", "val/bee", "test/ant", count=3)
    found = unseen_in_folder(root, kdcam.load(whole_run), progress=Silent())
    assert found.part.targets.tolist() == [0, 0, 0, 1, 1, 1] * 2 + [0, 0, 0]


def test_overlapping_classes_are_named(whole_run: Path, class_folders: Callable[..., Path]) -> None:
    classifier = kdcam.load(whole_run)
    found = unseen_in_folder(class_folders("3", "ant", "7"), classifier, progress=Silent())
    with pytest.raises(DataError, match=r"pictures: .*whole was trained on '3', '7', so its features"):
        check_unseen(found, whole_run, progress=Silent())
    check_unseen(found._replace(label_names=("cat", "dog")), whole_run, progress=Silent())


def test_an_unreadable_picture_is_named(whole_run: Path, class_folders: Callable[..., Path]) -> None:
    root = class_folders("ant", "bee")
    (root / "bee" / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 16 files cannot be read as pictures: .*3\.png"):
        unseen_in_folder(root, kdcam.load(whole_run), progress=Silent())


def test_a_split_that_trains_on_other_classes_now_is_refused(split_runs: tuple[Path, Path]) -> None:
    recipe = recipe_of(split_runs[0])
    trained = kdcam.load(split_runs[0]).label_names
    split = recipe.data.class_split.model_copy(update={"seed": 7})  # type: ignore[union-attr]
    other = recipe.model_copy(update={"data": recipe.data.model_copy(update={"class_split": split})})
    with pytest.raises(
        DataError, match=r"was trained on 5 classes, and the split makes 5 now, of which '\d'"
    ):
        unseen_of_split(split_runs[0], other.data, "novel", trained, progress=Silent())


@pytest.mark.parametrize("image_size", [16, 80])  # held in memory, decoded batch by batch
def test_the_content_is_that_of_the_files(class_folders: Callable[..., Path], image_size: int) -> None:
    root = class_folders("ant", "bee", count=3)

    def digest() -> str:
        config = ImageFolderConfig(root=root, image_size=image_size, workers=0, validation=0.0, test=0.0)
        return content_digest(load_source(config, Silent()).train)

    before = digest()
    if image_size == 80:
        config = ImageFolderConfig(root=root, image_size=16, channels=1, validation=0.0, test=0.0)
        assert content_digest(load_source(config, Silent()).train) == before
    shutil.copy(root / "ant/0.png", root / "ant/1.png")
    assert digest() != before


def test_a_fine_tuned_run_has_seen_what_it_began_with(
    whole_run: Path, split_runs: tuple[Path, Path], tmp_path: Path
) -> None:
    data = recipe_of(split_runs[0]).data
    table = {
        "data": data.model_dump(mode="json"),
        "init": {"checkpoint": str(whole_run)},
        "epochs": 1,
        "batch_size": 16,
    }
    tuned = kdcam.finetune(read_recipe(table, source="tuned"), output=tmp_path / "tuned").path
    with pytest.raises(
        DataError, match=r"tuned learned from \S+whole, which was trained on '\d', .*have seen such"
    ):
        kdcam.evaluate_few_shot([tuned], settings={"ways": 3, "queries": 3, "episodes": 2}, device="cpu")
