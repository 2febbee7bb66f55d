"""Classes told apart, by counts and by a file; data sets narrowed to some of their classes."""

import csv
import json

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from kdcam.data.common_config import ClassSplitConfig, NoiseConfig
from kdcam.data.datasets import describe_data, load_data
from kdcam.data.source_configs import (
    CifarConfig,
    DataConfig,
    DigitScenesConfig,
    DigitsConfig,
    ImageFolderConfig,
    TorchvisionConfig,
)
from kdcam.data.sources.digits import TRAIN_DIGITS, read_digits
from kdcam.data.splits.class_split import classes_of, read_class_parts, select_classes, split_classes
from kdcam.errors import DataError

NAMES = tuple("abcdefghij")
THREE = ClassSplitConfig(novel=3, validation=2)


def csv_of(path, **part_of):
    path.write_text("class,part\n" + "".join(f"{name},{part}\n" for name, part in part_of.items()))
    return path


@pytest.mark.parametrize("seed", range(5))
def test_parts_are_disjoint_and_make_the_whole(seed):
    parts = split_classes(NAMES, ClassSplitConfig(novel=3, validation=2, seed=seed))
    assert [len(parts[part]) for part in ("base", "validation", "novel")] == [5, 2, 3]
    assert sorted(name for names in parts.values() for name in names) == list(NAMES)
    assert all(list(names) == sorted(names) for names in parts.values())


def test_is_the_seeds_alone():
    splits = [split_classes(NAMES, ClassSplitConfig(novel=3, seed=seed)) for seed in (0, 0, 1, 2, 3)]
    assert splits[0] == splits[1]
    assert len({tuple(split["novel"]) for split in splits}) > 2


def test_the_novel_classes_do_not_depend_on_the_number_of_validation_classes():
    assert split_classes(NAMES, THREE)["novel"] == split_classes(NAMES, ClassSplitConfig(novel=3))["novel"]


def test_groups_stay_whole():
    names = [f"{group}/{number}" for group in "abcde" for number in range(4)]
    parts = split_classes(names, ClassSplitConfig(novel=2, validation=1), group_of=lambda name: name[0])
    assert [len(parts[part]) for part in ("base", "validation", "novel")] == [8, 4, 8]
    assert not {name[0] for name in parts["base"]} & {name[0] for name in parts["novel"]}


def test_more_than_there_are_is_refused():
    with pytest.raises(DataError, match=r"found novel = 8 and validation = 2, but the data has 10 classes"):
        split_classes(NAMES, ClassSplitConfig(novel=8, validation=2))
    with pytest.raises(DataError, match=r"the data has 2 groups of 10 classes; allowed: together at most 1"):
        split_classes(NAMES, ClassSplitConfig(novel=2), group_of=lambda name: str(name < "e"))


def test_a_single_class_is_refused():
    with pytest.raises(DataError, match=r"makes 1 base of 10 classes \(\w\); allowed: 2 or more"):
        classes_of(DigitsConfig(class_split=ClassSplitConfig(novel=9)), NAMES)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, r"novel is missing"),
        ({"file": "a.csv", "novel": 3}, r"found file together with novel"),
        ({"file": "a.csv", "seed": 3}, r"keep either it or the counts"),
        ({"novel": 3, "part": "validation"}, r"found part = \"validation\" with validation = 0"),
        ({"novel": 3, "part": "val"}, r"'base', 'validation' or 'novel'"),
    ],
)
def test_settings_that_do_not_fit(table, message):
    with pytest.raises(ValidationError, match=message):
        ClassSplitConfig.model_validate(table)


def test_a_file_tells_each_classs_part(tmp_path):
    file = csv_of(tmp_path / "split.csv", c="novel", a="base", b="validation", d="base")
    assert split_classes("abcd", ClassSplitConfig(file=file)) == {
        "base": ("a", "d"),
        "validation": ("b",),
        "novel": ("c",),
    }


@pytest.mark.parametrize("name", [" a", "a\u2028x", "a\nx", "a,1", "a\u00a0", '"a"'])
def test_names_are_taken_as_they_are(tmp_path, name):
    file = tmp_path / "split.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("class", "part"), (name, "base"), ("b", " base"), (" c ", "novel")])
    parts = split_classes((name, "b", "c"), ClassSplitConfig(file=file))
    assert parts == {"base": (name, "b"), "validation": (), "novel": ("c",)}


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(DataError, match=r"'a' is the name of several classes of the data"):
        split_classes(("a", "b", "a", "c"), ClassSplitConfig(novel=1))


def test_a_label_of_no_class_is_refused():
    part = load_data(DigitsConfig()).train
    with pytest.raises(DataError, match=r"data: holds the label 9, but there are 9 classes"):
        select_classes(part, tuple("012345678"), ("1", "2"))


def test_a_line_may_name_a_group(tmp_path):
    file = csv_of(tmp_path / "split.csv", x="novel", y="base")
    parts = split_classes(["x1", "y1", "x2"], ClassSplitConfig(file=file), group_of=lambda name: name[0])
    assert parts["novel"] == ("x1", "x2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,base\nb,novel\n", r"begins with 'a,base'; allowed: the header class,part"),
        ("", r"begins with 'an empty file'; allowed"),
        ("class,part\na,base,3\n", r"line 2: found 3 cells; allowed: two"),
        ("class,part\na,test\n", r"line 2: the part of 'a' is 'test'; allowed: base, validation, novel"),
        ('class,part\n"a,base\nb,novel\n', r"split\.csv, line 2: is no CSV \(unexpected end of data\); mend"),
        ('class,part\n"a"x,base\nb,novel\n', r"line 2: is no CSV \(','"),
        ("class,part\n" + "a" * 140_000 + ",base\n", r"line 2: is no CSV \(field larger than field limit"),
        ('class,part\n"a\nx",base\nb,test\n', r"line 4: the part of 'b' is 'test'"),
        (
            "class,part\na,base\n\nb,base\na,novel\n",
            r"line 5: the class 'a' is in base and in novel \(line 2\)",
        ),
        ("class,part\na,base\na,base\n", r"line 3: the class 'a' is twice in base"),
        ("class,part\na,base\nb,base\nc,novel\ndd,base\n", r"the data has no class 'dd'; .*'a', 'b', 'c'"),
        ("class,part\na,base\nb,novel\n", r"says no part for 1 of 3 classes, 'c'; add a line"),
        ("class,part\na,novel\nb,novel\nc,novel\n", r"of 3 classes none is left as base; change"),
    ],
)
def test_files_that_do_not_fit(tmp_path, text, message):
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        split_classes("abc", ClassSplitConfig(file=tmp_path / "split.csv"))
    assert "\n" not in str(caught.value)


def test_a_file_that_cuts_a_group_in_two(tmp_path):
    file = csv_of(tmp_path / "split.csv", x1="novel", x2="base", y1="base")
    with pytest.raises(DataError, match=r"'x' lies in novel, base; put all of its classes into one part"):
        split_classes(["x1", "x2", "y1"], ClassSplitConfig(file=file), group_of=lambda name: name[0])
    both = csv_of(tmp_path / "both.csv", x="novel", x1="novel", y="base")
    with pytest.raises(DataError, match=r"'x1' is named by itself and by its group 'x'"):
        split_classes(["x1", "x2", "y1"], ClassSplitConfig(file=both), group_of=lambda name: name[0])


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"no\.csv: cannot be read \(No such file"):
        read_class_parts(tmp_path / "no.csv")


def test_digits_keep_their_own_labels():
    config = DigitsConfig(class_split=THREE)
    kept = [int(name) for name in classes_of(config, tuple("0123456789"))]
    parts = load_data(config)
    assert parts.label_names == tuple(map(str, kept))
    assert parts.validation is not None
    assert parts.test is not None
    _, labels = read_digits()
    for split, own in ((parts.test, labels[TRAIN_DIGITS:]), (parts.train, labels[:TRAIN_DIGITS])):
        assert set(split.targets.tolist()) == {0, 1, 2, 3, 4}
        held = len(parts.validation) if split is parts.train else 0
        assert len(split) + held == int(torch.isin(own, torch.tensor(kept)).sum())


def test_the_pixels_go_with_their_labels():
    config = DigitsConfig(class_split=THREE, validation=0.0)
    kept = [int(name) for name in classes_of(config, tuple("0123456789"))]
    train, whole = load_data(config).train, load_data(DigitsConfig(validation=0.0)).train
    there = torch.isin(whole.targets, torch.tensor(kept))
    assert torch.equal(train.images.pixels, whole.images.pixels[there])
    assert torch.equal(torch.tensor(kept)[train.targets], whole.targets[there])


def test_the_other_part_is_of_the_other_classes():
    base, novel = (
        load_data(DigitsConfig(class_split=ClassSplitConfig(part=part, novel=4)))
        for part in ("base", "novel")
    )
    assert not set(base.label_names) & set(novel.label_names)
    assert len(base.label_names) == 6
    assert len(novel.label_names) == 4


def test_boxes_of_scenes_go_with_them():
    config = DigitScenesConfig(train_size=100, test_size=50, image_size=16, class_split=THREE)
    parts, whole = load_data(config), load_data(config.model_copy(update={"class_split": None}))
    label = torch.tensor([int(name) for name in parts.label_names])
    there = torch.isin(whole.train.targets, label)
    assert torch.equal(parts.train.boxes, whole.train.boxes[there])


def test_label_noise_stays_among_the_classes():
    config = DigitsConfig(class_split=THREE, noise=NoiseConfig(kind="pairflip", rate=0.5))
    parts = load_data(config)
    assert parts.noise is not None
    wrong = parts.noise.changed
    assert torch.equal(parts.train.targets[wrong], (parts.noise.clean[wrong] + 1) % 5)
    with pytest.raises(ValidationError, match=r"found class_split with noise\.kind = \"file\""):
        DigitsConfig(class_split=THREE, noise=NoiseConfig(kind="file", file="a.csv", column="b"))
    with pytest.raises(
        ValidationError, match=r"found class_split with noise\.kind = \"asymmetric\", whose look-"
    ):
        CifarConfig(name="cifar10", class_split=THREE, noise=NoiseConfig(kind="asymmetric", rate=0.2))


def test_split_fraction_and_noise_together_keep_each_image_its_label():
    noise = NoiseConfig(kind="symmetric", rate=0.4)
    parts = load_data(DigitsConfig(class_split=THREE, fraction=0.3, noise=noise))
    assert parts.noise is not None
    values, targets = read_digits()
    known = {tuple(one.tolist()): int(label) for one, label in zip(values.flatten(1), targets, strict=True)}
    rows = (parts.train.images.pixels.flatten(1).double() * 16 / 255).round().long()
    clean = [int(parts.label_names[label]) for label in parts.noise.clean]
    assert [known[tuple(row.tolist())] for row in rows] == clean
    assert torch.equal(parts.train.targets != parts.noise.clean, parts.noise.changed)
    assert 0.3 < float(parts.noise.changed.float().mean()) < 0.5
    whole = load_data(DigitsConfig(class_split=THREE))
    for one, other in ((parts.validation, whole.validation), (parts.test, whole.test)):
        assert torch.equal(one.images.pixels, other.images.pixels)
        assert torch.equal(one.targets, other.targets)
    assert len(parts.train) == pytest.approx(0.3 * len(whole.train), abs=1)


@pytest.fixture
def folder(paint, tmp_path):
    for part, count in (("train", 6), ("val", 2)):
        for name in "abcde":
            if (part, name) != ("val", "a"):
                paint(tmp_path / part / name, count)
    return tmp_path


def test_a_folder_is_described_as_it_is_read(folder, tmp_path):
    file = csv_of(tmp_path / "split.csv", a="base", b="novel", c="base", d="novel", e="validation")
    for part, counts in (("base", (12, 2)), ("novel", (12, 4))):
        split = ClassSplitConfig(file=file, part=part)
        config = ImageFolderConfig(root=folder, image_size=8, test=0.0, class_split=split)
        parts, summary = load_data(config), describe_data(config)
        assert summary.label_names == parts.label_names
        assert (len(parts.train), len(parts.validation)) == counts
        assert summary.train_images == len(parts.train)
        assert f"the 2 {part} classes of data.class_split" in summary.note
        names = [path.parent.name for path in parts.train.paths]
        assert [parts.label_names[target] for target in parts.train.targets] == names


def test_a_part_without_an_image_of_the_classes_is_held_out(folder, tmp_path):
    file = csv_of(tmp_path / "split.csv", a="base", b="novel", c="novel", d="novel", e="base")
    (tmp_path / "elsewhere").mkdir()
    (folder / "val" / "e").rename(tmp_path / "elsewhere" / "e")
    config = ImageFolderConfig(
        root=folder, image_size=8, test=0.0, validation=0.25, class_split=ClassSplitConfig(file=file)
    )
    parts, summary = load_data(config), describe_data(config)
    assert (len(parts.train), len(parts.validation)) == (10, 2)  # as the keys draw: about 9 and 3
    assert (summary.train_images, summary.own_validation) == (9, False)


def test_counts_that_are_about_are_said_to_be_so():
    for split in (None, THREE):
        summary = describe_data(DigitsConfig(class_split=split))
        assert ("as if all classes were equally large" in summary.note) == (split is not None)
        # 1,300 images: the classes are of 127 to 135
        assert summary.train_images == pytest.approx(
            len(load_data(DigitsConfig(class_split=split)).train), abs=6
        )


def test_sets_whose_names_are_not_known_yet_are_counted(tmp_path):
    cifar = describe_data(CifarConfig(name="cifar100", root=tmp_path, class_split=ClassSplitConfig(novel=20)))
    assert len(cifar.label_names) == 80
    assert cifar.train_images == 36_000
    file = csv_of(tmp_path / "split.csv", a="base", b="base", c="novel")
    config = TorchvisionConfig(
        name="torchvision:USPS", root=tmp_path, class_split=ClassSplitConfig(file=file)
    )
    assert describe_data(config).label_names == ("a", "b")


def test_several_labels_an_image_are_refused():
    with pytest.raises(ValidationError, match=r"and class_split work on one label an image"):
        DigitScenesConfig(multi_label=True, class_split=THREE)


def test_a_recipe_without_a_split_is_stored_as_before():
    assert "class_split" not in DigitsConfig().model_dump(mode="json")
    stored = json.dumps(DigitsConfig(class_split=THREE).model_dump(mode="json"))
    read = TypeAdapter[DataConfig](DataConfig).validate_python(json.loads(stored))
    assert read == DigitsConfig(class_split=THREE)
