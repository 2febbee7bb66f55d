"""The images of classes that a run was not trained on."""

import pytest
import torch
from PIL import Image
from small_runs import Watcher

from kdcam.data.common_config import ClassSplitConfig
from kdcam.data.datasets import load_data
from kdcam.data.novel_class_images import ChainedPictures, novel_classes
from kdcam.data.source_configs import DigitScenesConfig, DigitsConfig, ImageFolderConfig
from kdcam.data.sources.digits import read_digits
from kdcam.data.splits.class_split import classes_of
from kdcam.errors import DataError
from kdcam.runtime.progress import Silent

SPLIT = ClassSplitConfig(novel=3, validation=2)


@pytest.mark.parametrize("part", ["novel", "validation"])
def test_digits_of_training_and_test_part(part):
    config = DigitsConfig(class_split=SPLIT)
    images, names = novel_classes(config, part, progress=Silent())
    labels = torch.tensor([int(name) for name in names])
    _, targets = read_digits()
    there = targets[torch.isin(targets, labels)]
    assert torch.equal(labels[images.targets], there)  # training comes before test in the file too
    assert not set(names) & set(load_data(config).label_names)
    assert names == classes_of(config, tuple("0123456789"), part)


def test_scenes_keep_their_boxes():
    config = DigitScenesConfig(train_size=100, test_size=50, image_size=16, class_split=SPLIT)
    images, names = novel_classes(config, progress=Silent())
    assert len(names) == 3
    assert images.boxes.shape == (len(images), 4)


@pytest.mark.parametrize("image_size", [16, 80])  # held in memory, decoded batch by batch
def test_a_folders_files_of_all_parts(paint, tmp_path, image_size):
    for part in ("train", "val", "test"):
        for number, name in enumerate("abcdef"):
            paint(tmp_path / part / name, 3, first=40 * number + 10 * len(part))
    split = ClassSplitConfig(novel=3)
    config = ImageFolderConfig(root=tmp_path, image_size=image_size, workers=0, class_split=split)
    images, names = novel_classes(config, progress=Silent())
    assert len(images) == 27
    assert [names[target] for target in images.targets] == [path.parent.name for path in images.paths]
    assert [path.parent.parent.name for path in images.paths] == ["train"] * 9 + ["val"] * 9 + ["test"] * 9
    for index, path in enumerate(images.paths):
        held = image_size == 16
        pixels = images.images.pixels[index] if held else images.images.read(index)
        with Image.open(path) as picture:
            assert int(pixels[0, 3, 3]) == picture.getpixel((3, 3))[0]


def test_pictures_of_several_sources_in_turn():
    class Numbers:
        def __init__(self, *numbers):
            self.numbers = numbers

        def __len__(self):
            return len(self.numbers)

        def picture(self, index, at_least):
            return (self.numbers[index], at_least)

    chained = ChainedPictures([Numbers(1, 2), Numbers(), Numbers(3)])
    assert [chained.picture(index, 5) for index in range(len(chained))] == [(1, 5), (2, 5), (3, 5)]


def test_data_without_such_classes_is_refused():
    with pytest.raises(DataError, match=r"data \(digits\): has no \[data\.class_split\]"):
        novel_classes(DigitsConfig(), progress=Silent())
    with pytest.raises(DataError, match=r"has no validation classes; take the novel ones"):
        novel_classes(DigitsConfig(class_split=ClassSplitConfig(novel=3)), "validation", progress=Silent())


def test_files_left_out_are_told(paint, tmp_path):
    for name in "abcdef":
        paint(tmp_path / name, 2)
    config = ImageFolderConfig(root=tmp_path, image_size=8, on_bad_image="skip", class_split=SPLIT)
    lost = classes_of(config, tuple("abcdef"), "novel")[0]
    sorted((tmp_path / lost).iterdir())[0].write_bytes(b"no picture")
    watcher = Watcher()
    images, _ = novel_classes(config, progress=watcher)
    assert len(images) == 5
    (warning,) = watcher.warnings
    assert warning.startswith("1 files of the data left out: ")
    assert lost in warning


def test_another_split_than_that_of_the_run_is_refused():
    config = DigitsConfig(class_split=SPLIT)
    trained = load_data(config).label_names
    novel_classes(config, trained_on=trained, progress=Silent())
    with pytest.raises(
        DataError, match=r"trained on 5 classes, and the split makes 5 now, in another order; give"
    ):
        novel_classes(config, trained_on=trained[::-1], progress=Silent())
    with pytest.raises(
        DataError, match=r"trained on 4 classes, .* 5 now, of which none then alone, '\d' now alone"
    ):
        novel_classes(config, trained_on=trained[1:], progress=Silent())


def test_a_class_without_image_is_refused(paint, tmp_path):
    for name in "abcdef":
        paint(tmp_path / name, 2)
    config = ImageFolderConfig(root=tmp_path, image_size=8, on_bad_image="skip", class_split=SPLIT)
    lost = classes_of(config, tuple("abcdef"), "novel")[0]
    for path in (tmp_path / lost).iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=rf"no image of the novel class '{lost}'; add images"):
        novel_classes(config, progress=Silent())
