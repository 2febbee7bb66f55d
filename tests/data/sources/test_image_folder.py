import os

import numpy
import pytest
import torch
from PIL import Image

from kdcam.data.batches.resident import ResidentImages
from kdcam.data.batches.streaming import StreamImages
from kdcam.data.dataset_parts import absent_warnings
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.source_configs import ImageFolderConfig
from kdcam.data.sources.image_folder import list_images
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
    with pytest.raises(DataError, match=rf"both val/ and {name}/ for validation; keep one"):
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


def test_a_test_part_that_lacks_classes_shifts_nothing_and_says_so(tmp_path):
    for name in ("a", "b", "c"):
        fill(tmp_path / "train" / name)
    fill(tmp_path / "test" / "c", 2)
    (tmp_path / "test" / "a").mkdir()
    parts = load_data(config(tmp_path))
    assert parts.test.targets.tolist() == [2, 2]
    told = ["the test part has no image of 2 of 3 classes ('a', 'b'): its scores say nothing of them"]
    assert absent_warnings(parts) == told
    assert list(describe_data(config(tmp_path)).warnings) == told


def test_a_class_may_be_called_train_inside_a_part(tmp_path):
    for name in ("bus", "train", "test"):
        fill(tmp_path / "train" / name, 1)
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
    yield root / "flat", r"test/ is called like the test part, but holds pictures and no class folders"
    for name in ("a", "b"):
        fill(root / "hollow" / "train" / name)
    (root / "hollow" / "test").mkdir()
    yield root / "hollow", r"test: holds no picture in class folders"
    fill(root / "trainless" / "val" / "a")
    fill(root / "trainless" / "test" / "a")
    yield root / "trainless", r"has val/, test/ with class folders but no train/"


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


NFC, NFD = "d\u00f6g", "do\u0308g"


def names_and_counts(root):
    listing = list_images(root)
    return listing.label_names, *(None if part is None else len(part) for part in listing[1:])


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("training_set", "valid-set", "test set"),
        ("TrainSet", "DEV", "EvalData"),
        ("TRAIN_DATA", "dev_set", "testset"),
    ],
)
def test_parts_are_known_in_any_case_and_spelling(tmp_path, train, validation, test):
    for part, count in ((train, 3), (validation, 2), (test, 1)):
        fill(tmp_path / part / "cats", count)
        fill(tmp_path / part / "dogs", count)
    assert names_and_counts(tmp_path) == (("cats", "dogs"), 6, 4, 2)


def unsure_folders(root):
    """Yield a folder whose parts and classes cannot be told apart, and what the error must say."""
    for number, name in enumerate(("train2017", "train_images", "images-train", "trainval", "Train 1")):
        fill(root / f"like{number}" / name / "a", 1)
        fill(root / f"like{number}" / name / "b", 1)
        yield root / f"like{number}", f"{name}/ looks like the train part, but may be a class; call it train/"
    for part in ("seg_train", "seg_test"):
        for name in ("a", "b"):
            fill(root / "together" / part / name, 1)
    yield (
        root / "together",
        "seg_test/ and seg_train/ look like parts, but may be classes; call the parts train/",
    )
    for name in ("bus", "train", "test"):
        fill(root / "vehicles" / name, 1)
    yield root / "vehicles", "is called like the .* part, but holds pictures and no class folders"
    for name in ("valid", "invalid"):
        fill(root / "checks" / name, 1)
    yield root / "checks", "if valid is a class itself, put all class folders into a folder train/"
    for name in ("a", "b"):
        fill(root / "beside" / "train" / name, 1)
    fill(root / "beside" / "c", 1)
    yield root / "beside", "has c/ with pictures beside train/, so that it is not sure"
    for part in ("train", "Training"):
        fill(root / "twice" / part / "a", 1)
    yield root / "twice", "both Training/ and train/ for train; keep one"
    for part in ("train", "test", "test_images"):
        fill(root / "third" / part / "a", 1)
        fill(root / "third" / part / "b", 1)
    yield root / "third", "both test/ and test_images/ for test"
    for part in ("train", "test"):
        for name in ("a", "b"):
            fill(root / "inside" / name / part, 1)
    yield root / "inside", "a: holds the parts train/, test/ inside the class folder"
    for part in ("train", "val"):
        for name in ("images", "labels"):
            fill(root / "yolo" / part / name, 1)
    yield root / "yolo", "train: holds images/ and labels/.*yolo-labels"


def test_what_may_be_parts_or_classes_is_refused_with_the_way_out(tmp_path):
    for root, reason in unsure_folders(tmp_path):
        with pytest.raises(DataError, match=reason) as caught:
            list_images(root)
        assert str(root) in str(caught.value)


def test_what_lies_one_folder_further_in_is_pointed_to(tmp_path):
    for path in ("classes/archive/cat", "classes/archive/dog", "parts/data/train/cat", "parts/data/test/cat"):
        fill(tmp_path / path, 1)
    for place, inner in (("classes", "archive/ holds cat/, dog/"), ("parts", "data/ holds test/, train/")):
        folder = tmp_path / place / inner.partition("/")[0]
        with pytest.raises(
            DataError, match=rf"holds 1 class .*{inner}: .* make {folder} data.root, or move them up"
        ):
            list_images(tmp_path / place)
    fill(tmp_path / "alone" / "cat", 1)
    with pytest.raises(DataError, match=r"one folder of pictures for each class$"):
        list_images(tmp_path / "alone")


def test_folders_without_pictures_beside_the_parts_are_left_alone(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / "train" / name, 1)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text("<a/>")
    fill(tmp_path / "__MACOSX", 1)
    assert names_and_counts(tmp_path) == (("a", "b"), 2, None, None)


def test_hidden_and_system_folders_are_pruned_at_any_depth(tmp_path):
    for name in ("a", "b"):
        fill(tmp_path / name / "deeper", 2)
        for hidden in (
            ".ipynb_checkpoints",
            "__MACOSX",
            "@eaDir",
            "$RECYCLE.BIN",
            "lost+found",
            "__pycache__",
        ):
            fill(tmp_path / name / hidden, 1)
            fill(tmp_path / name / "deeper" / hidden / "deeper", 1)
    fill(tmp_path / "System Volume Information", 1)
    (tmp_path / "a" / "._000.png").write_bytes(b"x")
    assert names_and_counts(tmp_path) == (("a", "b"), 4, None, None)


def test_links_double_nothing(tmp_path):
    for name in ("a", "b", "c"):
        fill(tmp_path / "data" / name, 3)
    fill(tmp_path / "data" / "a" / "deep", 2)
    before = list_images(tmp_path / "data")
    (tmp_path / "data" / "a" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "b" / "self").symlink_to(tmp_path / "data" / "b")
    (tmp_path / "data" / "all").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "above").symlink_to(tmp_path)
    (tmp_path / "data" / "a" / "again").symlink_to(tmp_path / "data" / "a" / "deep")
    (tmp_path / "data" / "a" / "000-again.png").symlink_to(tmp_path / "data" / "a" / "000.png")
    assert list_images(tmp_path / "data") == before


def test_links_to_files_and_folders_outside_are_legal(tmp_path):
    pool = fill(tmp_path / "pool", 4)
    for number, name in enumerate(("a", "a", "b", "b")):
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name / f"{number}.png").symlink_to(pool / f"{number:03}.png")
    (tmp_path / "data" / "c").symlink_to(fill(tmp_path / "elsewhere", 2))
    assert names_and_counts(tmp_path / "data") == (("a", "b", "c"), 6, None, None)


def shared_by_links(root):
    """Yield a folder in which links put a file into two classes or parts, and what the error must say."""
    for case in ("folder", "file", "class"):
        fill(root / case / "a", 2)
        fill(root / case / "b", 2)
    (root / "folder" / "a" / "more").symlink_to(root / "folder" / "b")
    yield root / "folder", "is the same file as .* through a link, so that it is in the classes 'a' and 'b'"
    (root / "file" / "b" / "again.png").symlink_to(root / "file" / "a" / "000.png")
    yield root / "file", r"again\.png: is the same file as .*000\.png through a link"
    (root / "class" / "c").symlink_to(root / "class" / "a")
    yield root / "class", "a/ and c/ are one folder through a link; remove one"
    fill(root / "part" / "train" / "a", 2)
    fill(root / "part" / "train" / "b", 2)
    (root / "part" / "test").symlink_to(root / "part" / "train")
    yield root / "part", "so that it is in the train and test parts; remove the link"


def test_a_file_in_two_classes_or_parts_is_refused(tmp_path):
    for root, reason in shared_by_links(tmp_path):
        with pytest.raises(DataError, match=reason):
            list_images(root)


def test_class_names_are_one_in_nfc(tmp_path):
    fill(tmp_path / "train" / NFC, 2)
    fill(tmp_path / "train" / "ant", 2)
    fill(tmp_path / "val" / NFD, 1)
    fill(tmp_path / "val" / "ant", 1)
    listing = list_images(tmp_path)
    assert listing.label_names == ("ant", NFC)
    assert [label for _, label in listing.validation] == [0, 1]
    fill(tmp_path / "train" / NFD, 1)
    with pytest.raises(DataError, match=f"train: holds two folders called '{NFC}'"):
        list_images(tmp_path)


def test_classes_that_differ_in_case_across_parts_are_refused_with_a_hint(tmp_path):
    for part, name in (("train", "cats"), ("train", "dogs"), ("test", "Cats"), ("test", "dogs")):
        fill(tmp_path / part / name, 1)
    with pytest.raises(DataError, match=r"training has no class 'Cats'.* Rename it to 'cats'$"):
        list_images(tmp_path)


def test_a_class_folder_whose_name_is_not_utf8_is_refused(tmp_path):
    fill(tmp_path / "ant", 1)
    (tmp_path / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(
        DataError, match=r"caf\\udce9: the class folder's name is not UTF-8; rename it"
    ) as caught:
        list_images(tmp_path)
    assert str(caught.value).isprintable()
