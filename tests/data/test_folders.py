import numpy
import pytest
import torch
from PIL import Image

from kdcam.data.config import ImageFolderConfig
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.folders import list_images
from kdcam.data.resident import ResidentImages
from kdcam.data.streaming import StreamImages
from kdcam.errors import DataError


def fill(folder, count=10, *, size=(20, 16), first=0):
    """Write pictures whose red is a running number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        array = numpy.full((*size, 3), (number, 0, 50), numpy.uint8)
        Image.fromarray(array).save(folder / f"{number:03}.png")
    return folder


def config(root, **settings):
    return ImageFolderConfig(**({"root": root, "image_size": 16, "test": 0.0} | settings))


def test_train_val_and_test_folders_are_taken_as_they_are(tmp_path):
    for part, count in (("train", 6), ("val", 3), ("test", 2)):
        for name in ("dog", "ant", "cat"):
            fill(tmp_path / part / name, count)
    (tmp_path / "boxes").mkdir()  # other folders beside train/ are left alone
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "ant" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "train" / "ant" / "Thumbs.db").write_bytes(b"x")
    parts = load_data(config(tmp_path))
    assert parts.label_names == ("ant", "cat", "dog")
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [18, 9, 6]
    assert parts.train.targets.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert parts.train.paths[7] == tmp_path / "train" / "cat" / "001.png"
    assert (parts.channels, parts.image_size, parts.skipped) == (3, 16, ())
    summary = describe_data(config(tmp_path))
    assert summary.label_names == parts.label_names
    assert summary.train_images == 18
    assert summary.own_validation


def test_the_test_part_takes_the_classes_in_turn(tmp_path):
    for name, count in (("a", 4), ("b", 2)):
        fill(tmp_path / "train" / name)
        fill(tmp_path / "test" / name, count)
    parts = load_data(config(tmp_path))
    assert parts.test.targets.tolist() == [0, 1, 0, 1, 0, 0]
    assert [path.stem for path in parts.test.paths] == ["000", "000", "001", "001", "002", "003"]
    assert parts.test.images.pixels[:, 0, 8, 8].tolist() == [0, 0, 1, 1, 2, 3]


@pytest.mark.parametrize("name", ["validation", "valid"])
def test_other_names_of_the_validation_folder(tmp_path, name):
    for part in ("train", name):
        fill(tmp_path / part / "a", 3)
        fill(tmp_path / part / "b", 3)
    assert len(load_data(config(tmp_path)).validation) == 6
    fill(tmp_path / "val" / "a", 1)
    with pytest.raises(DataError, match=f"both val/ and {name}/"):
        load_data(config(tmp_path))


def test_one_folder_of_class_folders_is_split(tmp_path):
    for first, name in ((0, "b"), (100, "a")):
        fill(tmp_path / name, 20, first=first)
        fill(tmp_path / name / "deeper", 10, first=first + 20)
    settings = config(tmp_path, test=0.2, validation=0.25)
    parts = load_data(settings)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [36, 11, 13]
    files = [set(part.paths) for part in (parts.train, parts.validation, parts.test)]
    assert len(files[0] | files[1] | files[2]) == 60
    for part in (parts.train, parts.validation, parts.test):
        assert torch.bincount(part.targets).tolist() == pytest.approx([len(part) / 2] * 2, abs=2)
        red = part.images.pixels[:, 0, 8, 8].tolist()
        assert red == [int(path.stem) for path in part.paths]
        assert [int(value < 100) for value in red] == part.targets.tolist()
    assert describe_data(settings).train_images == 36
    assert not describe_data(settings).own_validation
    assert load_data(config(tmp_path)).test is None


def test_a_test_part_that_lacks_a_class_shifts_nothing(tmp_path):
    for name in ("a", "b", "c"):
        fill(tmp_path / "train" / name)
    fill(tmp_path / "test" / "c", 2)
    (tmp_path / "test" / "a").mkdir()
    assert load_data(config(tmp_path)).test.targets.tolist() == [2, 2]


def test_a_class_may_be_called_train(tmp_path):
    for name in ("bus", "train", "test"):
        fill(tmp_path / name)
    assert list_images(tmp_path).label_names == ("bus", "test", "train")


def test_numbers_as_names_sort_as_text(tmp_path):
    for name in ("10", "9", "1"):
        fill(tmp_path / name)
    assert list_images(tmp_path).label_names == ("1", "10", "9")


def test_small_pictures_are_held_and_large_ones_streamed(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name)
    assert isinstance(load_data(config(tmp_path, image_size=64)).train.images, ResidentImages)
    large = load_data(config(tmp_path, image_size=65, channels=1)).train.images
    assert isinstance(large, StreamImages)
    assert large.read(0).shape == (1, 65, 65)


def wrong_folders(root):
    """Yield a name, a folder to read and what the error must say."""
    (root / "file").write_text("x")
    yield root / "file", "is a file"
    yield root / "nowhere", "is not there"
    (root / "nothing").mkdir()
    yield root / "nothing", "holds 0 class folders"
    fill(root / "loose")
    yield root / "loose", "holds 0 class folders"
    fill(root / "single" / "only")
    yield root / "single", r"holds 1 class folders \(only\); a classifier needs at least 2"
    fill(root / "hole" / "train" / "a")
    (root / "hole" / "train" / "b").mkdir()
    yield root / "hole", r"train/b: the class folder holds no file; add pictures or remove the folder"
    fill(root / "extra" / "train" / "a")
    fill(root / "extra" / "train" / "b")
    fill(root / "extra" / "test" / "c")
    yield root / "extra", r"test/c: training has no class 'c'; its classes: a, b"
    for name in ("a", "b"):
        fill(root / "flat" / "train" / name)
    fill(root / "flat" / "test")
    yield root / "flat", r"test: holds no picture in class folders"
    fill(root / "trainless" / "val" / "a")
    fill(root / "trainless" / "test" / "a")
    yield root / "trainless", r"has val/ with class folders but no train/"


def test_wrong_folders_are_named_with_the_way_out(tmp_path):
    for root, reason in wrong_folders(tmp_path):
        for look in (describe_data, load_data):
            with pytest.raises(DataError, match=reason) as caught:
                look(config(root))
            assert str(root) in str(caught.value)


@pytest.mark.parametrize("image_size", [16, 72])
def test_bad_files_are_counted_and_named_or_skipped(tmp_path, image_size):
    for name in ("a", "b"):
        fill(tmp_path / name, 10)
    good = (tmp_path / "a" / "000.png").read_bytes()
    bad = {
        tmp_path / "a" / "notes.txt": b"these are my pictures",
        tmp_path / "a" / "zero.png": b"",
        tmp_path / "b" / "cut.png": good[: len(good) // 2],
    }
    for path, content in bad.items():
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"3 of 23 files.*on_bad_image = \"skip\"") as caught:
        load_data(config(tmp_path, image_size=image_size))
    assert all(str(path) in str(caught.value) for path in bad)
    parts = load_data(config(tmp_path, image_size=image_size, on_bad_image="skip"))
    assert len(parts.train) + len(parts.validation) == 20
    assert [reason.split(": ")[0] for reason in parts.skipped] == [str(path) for path in bad]


@pytest.mark.parametrize("image_size", [16, 72])
def test_pictures_that_are_too_large_or_of_no_known_format_are_skipped_and_counted(tmp_path, image_size):
    for name in ("a", "b"):
        fill(tmp_path / name, 10)
    Image.new("1", (400, 300)).save(tmp_path / "a" / "large.png")
    Image.new("RGB", (16, 16)).save(tmp_path / "b" / "texture.dds")
    with pytest.raises(
        DataError, match=r"2 of 22 files.*400 x 300 pixels.* raise data\.max_pixels.*not an image"
    ):
        load_data(config(tmp_path, image_size=image_size, max_pixels=100_000))
    parts = load_data(
        config(tmp_path, image_size=image_size, max_pixels=100_000, on_bad_image="skip", validation=0.1)
    )
    assert len(parts.train) + len(parts.validation) == 20
    assert [reason.split(": ")[0] for reason in parts.skipped] == [
        str(tmp_path / "a" / "large.png"),
        str(tmp_path / "b" / "texture.dds"),
    ]
    parts = load_data(config(tmp_path, image_size=image_size, max_pixels=120_000, on_bad_image="skip"))
    assert len(parts.skipped) == 1


def test_many_bad_files_are_not_all_named(tmp_path):
    for name in ("a", "b"):
        for number in range(6):
            fill(tmp_path / name, 1)
            (tmp_path / name / f"{number}.txt").write_text("x")
    with pytest.raises(DataError, match=r"12 of 14 files .*; and 7 more"):
        load_data(config(tmp_path))


def test_a_class_of_bad_files_only_is_named(tmp_path):
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"no training image of class 'c' \(1 bad files were left out\)"):
        load_data(config(tmp_path, on_bad_image="skip"))
    for part in ("train", "test"):
        fill(tmp_path / "other" / part / "a")
        fill(tmp_path / "other" / part / "b")
    for path in (tmp_path / "other" / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 20 test files is a picture"):
        load_data(config(tmp_path / "other", on_bad_image="skip"))


def test_a_split_without_a_validation_part_is_refused_before_reading(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name, 2)
    for look in (describe_data, load_data):
        with pytest.raises(DataError, match=r"validation = 0\.1 of 4 training images .* holds out no image"):
            look(config(tmp_path))
    with pytest.raises(DataError, match=r"test = 0\.1 of 4"):
        describe_data(config(tmp_path, test=0.1))
    assert load_data(config(tmp_path, validation=0)).validation is None


def test_label_files_beside_pictures_are_pointed_to_their_own_source(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match=r"holds images/ and labels/.*yolo-labels"):
        list_images(tmp_path)
