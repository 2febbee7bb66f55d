import json
from pathlib import Path

import pytest
import torch

from kdcam.data.batches.streaming import StreamImages
from kdcam.data.datasets import batches, describe_data, load_data
from kdcam.data.source_configs import ImageLabelsConfig
from kdcam.errors import DataError

LABELS = ["cat;dog", "dog", "", "ant", "cat"]


def config(root, labels="labels.csv", **settings):
    base = {"root": root, "labels": labels, "image_size": 16, "test": 0.0, "validation": 0.2}
    return ImageLabelsConfig(**(base | settings))


def table(root, rows, header="image,labels"):
    (root / "labels.csv").write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture
def pictures(tmp_path, paint):
    """Forty pictures in pictures/ and a CSV file beside the folder that names them."""
    paint(tmp_path / "pictures", 40)
    table(tmp_path, [f"pictures/{number:03}.png,{LABELS[number % 5]}" for number in range(40)])
    return tmp_path


def test_pictures_and_rows_belong_together(pictures):
    parts = load_data(config(pictures))
    assert parts.label_names == ("ant", "cat", "dog")
    assert (len(parts.train), len(parts.validation), parts.test) == (32, 8, None)
    for part in (parts.train, parts.validation):
        assert part.targets.dtype == torch.float32
        numbers = part.images.pixels[:, 0, 8, 8].tolist()
        assert [path.stem for path in part.paths] == [f"{number:03}" for number in numbers]
        expected = [
            [float(name in LABELS[n % 5].split(";")) for name in ("ant", "cat", "dog")] for n in numbers
        ]
        assert part.targets.tolist() == expected
    assert parts.validation.targets.sum(0).tolist() == pytest.approx([1.6, 3.2, 3.2], abs=1.5)


def test_the_summary_agrees_and_tells_what_is_without_labels(pictures):
    settings = config(pictures, test=0.1)
    summary, parts = describe_data(settings), load_data(settings)
    assert summary.label_names == parts.label_names
    assert summary.train_images == pytest.approx(len(parts.train), abs=2)
    assert "8 to train on without a label" in summary.note
    assert "about 4 of them held out for test" in summary.note
    assert len(parts.test) == pytest.approx(4, abs=2)
    assert not summary.own_validation


def test_too_small_a_fraction_is_refused_before_pictures_are_read(pictures):
    settings = config(pictures, fraction=0.03)
    for look, images in (
        (describe_data, 40),
        (load_data, 32),
    ):  # the keys that hold some out are not known yet
        with pytest.raises(
            DataError,
            match=rf"data \(.*\): fraction = 0\.03 of {images} training images keeps 1, .* takes [23]",
        ):
            look(settings)


def test_batches_give_rows(pictures):
    settings = config(pictures, image_size=72, augment=("resized-crop", "flip"), workers=0)
    part = load_data(settings).train
    assert isinstance(part.images, StreamImages)
    loader = batches(part, batch_size=8, training=True, config=settings, seed=0, device=torch.device("cpu"))
    batch = next(loader.epoch(0))
    assert batch.images.shape == (8, 3, 72, 72)
    assert torch.equal(batch.targets, part.targets[batch.indices])


def test_json_and_csv_say_the_same(pictures, tmp_path):
    document = {
        f"pictures/{number:03}.png": [name for name in LABELS[number % 5].split(";") if name]
        for number in range(40)
    }
    (tmp_path / "labels.json").write_text(json.dumps(document))
    by_csv = load_data(config(pictures)).train
    by_json = load_data(config(pictures / "pictures" / "..", labels=tmp_path / "labels.json")).train
    assert torch.equal(by_csv.targets, by_json.targets)
    assert [path.name for path in by_csv.paths] == [path.name for path in by_json.paths]


def test_parts_that_the_file_makes(pictures):
    splits = ["train", "val", "Valid", "test_set", "dev"]
    rows = [f"pictures/{number:03}.png,cat,{splits[number % 5]}" for number in range(40)]
    table(pictures, rows, "image,labels,split")
    parts = load_data(config(pictures, test=0.1))
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [8, 24, 8]
    assert parts.label_names == ("cat",)
    summary = describe_data(config(pictures))
    assert summary.own_validation
    assert "24 for validation" in summary.note


def test_columns_keep_their_order_and_may_be_all_zero(pictures):
    table(pictures, [f"{number % 2},pictures/{number:03}.png,0,1" for number in range(20)], "z,image,none,a")
    settings = config(pictures)
    assert "1 classes without a picture to train on" in describe_data(settings).note
    parts = load_data(settings)
    assert parts.label_names == ("z", "none", "a")
    assert parts.train.targets[:, 1:].unique(dim=0).tolist() == [[0.0, 1.0]]


def wrong_tables(root):
    """Yield rows, the header, and what the error must say."""
    first = "pictures/000.png,cat"
    plain, split = "image,labels", "image,labels,split"
    yield [first, "pictures/nowhere.png,cat"], plain, r"line 3: there is no picture .*nowhere\.png"
    yield [first, f"{'x' * 5000},cat"], plain, "line 3: there is no picture"
    yield [first, ",cat"], plain, r"line 3: names no picture"
    yield [first, "./pictures/000.png,dog"], plain, r"line 3: names the picture .* again, after .*line 2"
    yield (
        [f"{first},train", "pictures/001.png,cat,extra"],
        split,
        "line 3: found split 'extra'; allowed: train, val",
    )
    yield [f"{first},train", "pictures/001.png,cat,"], split, "line 3: found split ''"
    yield [f"{first},test"], split, "no picture has the split 'train'"
    yield (
        [f"{first},train", "pictures/001.png,catt,test"],
        split,
        r"line 3: no training picture has the label 'catt'; did you mean 'cat'\?; the classes: cat\. ",
    )


def test_what_is_wrong_is_named_with_its_line_before_reading(pictures):
    for rows, header, reason in wrong_tables(pictures):
        table(pictures, rows, header)
        for look in (describe_data, load_data):
            with pytest.raises(DataError, match=reason) as caught:
                look(config(pictures))
            assert str(pictures / "labels.csv") in str(caught.value)


def test_a_json_entry_without_the_split_that_others_have(pictures):
    items = [
        {"image": "pictures/000.png", "labels": ["a"], "split": "train"},
        {"image": "pictures/001.png", "labels": []},
    ]
    (pictures / "labels.json").write_text(json.dumps(items))
    with pytest.raises(DataError, match="entry 2: found split None; allowed: train"):
        describe_data(config(pictures, labels="labels.json"))


def test_other_errors_of_the_files(pictures, paint):
    table(pictures, [f"pictures/{number:03}.png," for number in range(20)])
    for look in (describe_data, load_data):
        with pytest.raises(DataError, match="no training image has a label"):
            look(config(pictures, validation=0.2))
    with pytest.raises(DataError, match=r"data\.root: .*nowhere is not there; .*--set data\.root=DIR"):
        describe_data(config(pictures / "nowhere"))
    table(pictures, ["pictures/000.png,a", "pictures/001.png,b"])
    with pytest.raises(
        DataError, match=r"validation = 0\.5 of 2 training images in 2 classes holds out no image"
    ):
        load_data(config(pictures, validation=0.5))


def test_bad_pictures_are_named_or_skipped(pictures):
    (pictures / "pictures" / "003.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 40 files cannot be read as pictures: .*003\.png"):
        load_data(config(pictures))
    parts = load_data(config(pictures, on_bad_image="skip"))
    assert len(parts.train) + len(parts.validation) == 39
    assert Path(parts.skipped[0].split(": ")[0]).name == "003.png"


def test_pictures_outside_root_are_refused(pictures, paint):
    (outside,) = paint(pictures.parent / "outside", 1)
    for name in (f"../{outside.parent.name}/000.png", str(outside), "pictures/../../outside/000.png"):
        table(pictures, ["pictures/000.png,cat", f"{name},dog"])
        with pytest.raises(DataError, match=r"line 3: .* leads out of data\.root"):
            describe_data(config(pictures))


def test_links_inside_root_may_lead_out_of_it(pictures, paint):
    (outside,) = paint(pictures.parent / "outside", 1)
    (pictures / "link.png").symlink_to(outside)
    (pictures / "linked").symlink_to(outside.parent)
    table(pictures, ["pictures/000.png,cat", "pictures/001.png,dog", "link.png,dog", "pictures/002.png,cat"])
    paths = load_data(config(pictures, validation=0.5)).train.paths
    assert all(path.is_relative_to(pictures) for path in paths)


def test_pictures_inside_root_may_be_named_in_any_way(pictures):
    (pictures / "link").symlink_to(pictures / "pictures")
    names = ["pictures/000.png", str(pictures / "pictures/001.png"), "x/../pictures/002.png", "link/003.png"]
    table(pictures, [f"{name},{'ab'[number % 2]}" for number, name in enumerate(names)])
    paths = load_data(config(pictures, validation=0.5)).train.paths
    assert all(path.is_relative_to(pictures) for path in paths)
