import pytest
import torch

from kdcam.data.datasets import describe_data, load_data
from kdcam.data.source_configs import YoloLabelsConfig
from kdcam.data.sources.yolo_labels import read_names
from kdcam.errors import DataError

BOX = "0.5 0.5 0.2 0.1"


def config(root, **settings):
    return YoloLabelsConfig(**({"root": root, "image_size": 16, "test": 0.0, "validation": 0.2} | settings))


def label(file, *classes):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{number} {BOX}\n" for number in classes))


@pytest.fixture
def parted(tmp_path, paint):
    """Ten pictures to train on and four for validation, of three classes; the last of each without a label file."""
    (tmp_path / "data.yaml").write_text("nc: 3\nnames: [ant, bee, cat]\n")
    for folder, count in (("train2017", 10), ("val2017", 4)):
        for path in paint(tmp_path / "images" / folder, count)[:-1]:
            number = int(path.stem)
            label(tmp_path / "labels" / folder / f"{path.stem}.txt", *([0, 0, 2] if number % 2 else [2]))
    return tmp_path


def test_parts_and_rows(parted):
    label(parted / "labels" / "train2017" / "004.txt")  # empty: no object
    (parted / "images" / "notes").mkdir()  # other folders are left alone
    parts = load_data(config(parted))
    assert parts.label_names == ("ant", "bee", "cat")
    expected = [[0, 0, 1], [1, 0, 1]] * 5
    expected[4] = expected[9] = [0, 0, 0]
    assert parts.train.targets.tolist() == expected
    assert parts.validation.targets.tolist() == [[0, 0, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]
    assert parts.train.images.pixels[:, 0, 8, 8].tolist() == list(range(10))
    assert parts.test is None
    summary = describe_data(config(parted))
    assert summary.own_validation
    assert (summary.train_images, summary.label_names) == (10, parts.label_names)
    assert "2 to train on without a label, 1 classes without a picture to train on" in summary.note


def test_flat_folders_are_split(tmp_path, paint):
    (tmp_path / "classes.txt").write_text("ant\nbee\n\n")
    for folder, first in (("", 0), ("more", 20)):
        for path in paint(tmp_path / "images" / folder, 20, first=first):
            label(tmp_path / "labels" / folder / f"{path.stem}.txt", int(path.stem) % 2)
    settings = config(tmp_path, test=0.1)
    parts = load_data(settings)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [28, 9, 3]
    assert describe_data(settings).train_images == 29
    for part in (parts.train, parts.validation, parts.test):
        assert part.targets.argmax(1).tolist() == [int(path.stem) % 2 for path in part.paths]


def test_a_test_folder_and_a_names_file_elsewhere(parted, paint):
    paint(parted / "images" / "test", 3)
    label(parted / "labels" / "test" / "001.txt", 1)
    (parted / "meta").mkdir()
    (parted / "meta" / "coco.yml").write_text("names: {0: a, 2: c, 1: b}\n")
    parts = load_data(config(parted, names="meta/coco.yml"))
    assert parts.label_names == ("a", "b", "c")
    assert parts.test.targets.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.2", "line 2: found '0 0.5 0.5 0.2'; must be five numbers or more: class cx cy w h"),
        ("ant 0.5 0.5 0.2 0.1", "line 2: found 'ant .*must be five numbers"),
        (f"0 {BOX} 0.1 inf", "line 2: found .*must be five numbers or more"),
        (f"3 {BOX} 0.9", "line 2: found class 3"),
        ("0 nan 0.5 0.2 0.1", "line 2: found .*must be five numbers"),
        (f"3 {BOX}", "line 2: found class 3; allowed: a whole number from 0 to 2, for the 3 names"),
        (f"-1 {BOX}", "line 2: found class -1"),
        (f"0.5 {BOX}", "line 2: found class 0.5"),
    ],
)
def test_a_wrong_line_is_named(parted, line, reason):
    file = parted / "labels" / "train2017" / "000.txt"
    file.write_text(f"0 {BOX}\n{line}\n")
    for look in (describe_data, load_data):
        with pytest.raises(DataError, match=reason) as caught:
            look(config(parted))
        assert str(file) in str(caught.value)


def test_a_label_file_that_is_no_text(parted):
    (parted / "labels" / "train2017" / "000.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(DataError, match=r"000\.txt: is not written in UTF-8"):
        describe_data(config(parted))


def wrong_folders(root, paint):
    """Yield a root and what the error must say."""
    paint(root / "imageless" / "train", 1)
    yield root / "imageless", r"imageless: has no images/; kdcam reads images/train\*"
    paint(root / "nameless" / "images", 1)
    yield root / "nameless", r"holds none of data\.yaml, dataset\.yaml, config\.yaml, classes\.txt"
    named = [root / name for name in ("trainless", "twice", "empty", "labelless", "misnamed")]
    for place in named:
        place.mkdir()
        (place / "classes.txt").write_text("a\nb\n")
    paint(named[0] / "images" / "val", 1)
    yield named[0], r"images: has val/ but no train folder"
    for name in ("train", "val", "valid"):
        paint(named[1] / "images" / name, 1)
    yield named[1], r"images: has both val/ and valid/ for validation; keep one"
    (named[2] / "images" / "train").mkdir(parents=True)
    yield named[2], r"images/train: holds no picture"
    paint(named[3] / "images" / "train", 1)
    yield named[3], r"labels/train: is not there, so that nothing says"
    paint(named[4] / "images" / "train", 1)
    label(named[4] / "labels" / "train" / "other.txt", 0)
    yield (
        named[4],
        r"labels/train: has no label file, so that nothing says .*named as the pictures \(000\.txt\)",
    )


def test_wrong_folders_are_named_with_the_way_out(tmp_path, paint):
    for root, reason in wrong_folders(tmp_path, paint):
        for look in (describe_data, load_data):
            with pytest.raises(DataError, match=reason):
                look(config(root))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("names:\n- ant\n- bee\n", ("ant", "bee")),
        ("names: {1: bee, 0: ant}\n", ("ant", "bee")),
        ("names: [3, 4]\n", ("3", "4")),
        ("\ufeffnames: ['no', Bär]\n", ("no", "Bär")),
        ("names: [ant, no, 2001-12-14, 1.0, ~]\n", ("ant", "no", "2001-12-14", "1.0", "~")),
        ("date: 2001-12-14t21:59:43.10-25:00\nnames: [!!timestamp x, !!int b]\n", ("x", "b")),
        ("names:\r\n  '1': bee\r\n  0: ant\r\n", ("ant", "bee")),
    ],
)
def test_names_in_yaml(tmp_path, text, names):
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert read_names(tmp_path / "x.yaml") == names


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.yaml", "names: [ant\nnc: 2\n", r"x\.yaml, line 2: is no YAML"),
        ("x.yaml", "nc: 2\n", r"found names: None; must be a list of names"),
        ("x.yaml", "ant\n", r"found names: None"),
        ("x.yaml", "names: {0: ant, 2: bee}\n", r"names under the numbers 0, 1, 2"),
        ("x.yaml", "names: [ant, [bee]]\n", r"the name of class 1 is \['bee'\]"),
        ("x.yaml", "names: [ant, bee, ant]\n", r"classes 0 and 2 are both called 'ant'"),
        ("x.yaml", "names: []\n", r"holds no name"),
        ("x.txt", "ant\n\nbee\n", r"the name of class 1 is ''"),
        ("x.txt", "\n", r"holds no name"),
    ],
)
def test_wrong_names_are_told(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=reason):
        read_names(tmp_path / name)


def test_a_names_file_that_is_not_there(parted):
    with pytest.raises(
        DataError, match=r"data\.names: other\.yaml is looked for in data\.root, and .* is not there"
    ):
        describe_data(config(parted, names="other.yaml"))


def test_yaml_cannot_make_objects(tmp_path):
    made = tmp_path / "made"
    (tmp_path / "x.yaml").write_text(f"names: !!python/object/apply:os.mkdir ['{made}']\n")
    assert read_names(tmp_path / "x.yaml") == (str(made),)
    assert not made.exists()


def test_all_pictures_without_a_label_are_refused(parted):
    for file in (parted / "labels" / "train2017").iterdir():
        file.write_text("")
    with pytest.raises(DataError, match="no training image has a label"):
        load_data(config(parted))


def test_targets_are_rows_of_floats(parted):
    assert load_data(config(parted)).train.targets.dtype == torch.float32


@pytest.mark.parametrize(
    "line",
    [
        f"1 {BOX} 0.9",  # how sure a network is
        "1 0.1 0.1 0.2 0.1 0.2 0.2",  # a polygon of three points
        "1 " + " ".join(["0.25"] * 40),  # of twenty
        f"1 {BOX} 0.5 0.5 2",  # a pose of one point
        f"1.0 {BOX}",
    ],
)
def test_all_forms_of_lines_tell_the_class(parted, line):
    (parted / "labels" / "train2017" / "000.txt").write_text(f"{line}\r\n\r\n")
    assert load_data(config(parted)).train.targets[0].tolist() == [0, 1, 0]


def test_the_layout_of_a_folder_a_part(tmp_path, paint):
    """As Roboflow writes it: train/images, train/labels, valid/..., test/..."""
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['ant', 'bee']\n"
    )
    for folder, count in (("train", 6), ("valid", 4), ("test", 2)):
        for path in paint(tmp_path / folder / "images", count):
            label(tmp_path / folder / "labels" / f"{path.stem}.txt", int(path.stem) % 2)
    parts = load_data(config(tmp_path))
    assert parts.label_names == ("ant", "bee")
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [6, 4, 2]
    assert parts.train.targets.argmax(1).tolist() == [0, 1] * 3
    label(tmp_path / "valid" / "labels" / "001.txt", 2)
    with pytest.raises(DataError, match=r"valid/labels/001\.txt, line 1: found class 2; allowed: .* 0 to 1"):
        describe_data(config(tmp_path))
    paint(tmp_path / "images", 1)
    with pytest.raises(DataError, match=r"has both images/ and test/images/.*keep one layout"):
        describe_data(config(tmp_path))


def test_a_folder_a_part_without_one_to_train_on(tmp_path, paint):
    (tmp_path / "classes.txt").write_text("ant\n")
    paint(tmp_path / "valid" / "images", 2)
    with pytest.raises(DataError, match=r"has valid/ but no train folder"):
        describe_data(config(tmp_path))
