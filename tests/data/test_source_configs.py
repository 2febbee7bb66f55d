import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from kdcam.data.source_configs import (
    DATA_NAMES,
    TORCHVISION_SETS,
    CifarConfig,
    DataConfig,
    DigitScenesConfig,
    DigitsConfig,
    ImageFolderConfig,
    ImageLabelsConfig,
    MnistConfig,
    TorchvisionConfig,
    YoloLabelsConfig,
)

ADAPTER = TypeAdapter(DataConfig)


def read(table):
    return ADAPTER.validate_python(table)


def problems(table):
    with pytest.raises(ValidationError) as caught:
        read(table)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ({"name": "digits"}, DigitsConfig),
        ({"name": "digit-scenes"}, DigitScenesConfig),
        ({"name": "mnist"}, MnistConfig),
        ({"name": "fashion-mnist", "root": "here"}, MnistConfig),
        ({"name": "cifar10"}, CifarConfig),
        ({"name": "cifar100"}, CifarConfig),
        ({"name": "image-folder", "root": "photos"}, ImageFolderConfig),
        ({"name": "image-labels", "root": "photos", "labels": "labels.csv"}, ImageLabelsConfig),
        ({"name": "yolo-labels", "root": "coco"}, YoloLabelsConfig),
        ({"name": "torchvision:DTD"}, TorchvisionConfig),
    ],
)
def test_the_name_picks_the_class_and_the_settings_survive_json(table, kind):
    config = read(table)
    assert type(config) is kind
    assert ADAPTER.validate_json(ADAPTER.dump_json(config)) == config
    assert read(config) is config


def test_unknown_and_missing_names_are_refused_with_the_known_ones():
    [(_, message)] = problems({"name": "digit"})
    assert all(name in message for name in DATA_NAMES)
    assert problems({})
    assert problems({"name": 3})
    [(place, message)] = problems({"name": "torchvision:Nothing"})
    assert place[-1] == "name"
    assert "Flowers102" in message


@pytest.mark.parametrize(
    "table",
    [
        {"name": "digits", "root": "here"},
        {"name": "digits", "workers": 2},
        {"name": "digit-scenes", "on_bad_image": "skip"},
        {"name": "digits", "image_size": 7},
        {"name": "digit-scenes", "image_size": 65},
        {"name": "digits", "validation": 1.0},
        {"name": "digits", "validation": -0.1},
        {"name": "digits", "augment": ["blur"]},
        {"name": "digits", "augment": ["crop", "crop"]},
        {"name": "digits", "augment": ["resized-crop"]},
        {"name": "digits", "mixup": float("inf")},
        {"name": "digits", "noise": {"rate": 1.1}},
        {"name": "digits", "noise": {"kind": "pair", "rate": 0.1}},
        {"name": "digits", "noise": {}},
        {"name": "digits", "split_seed": -1},
        {"name": "image-folder"},
        {"name": "image-folder", "root": "photos", "image_size": 32, "augment": ["color-jitter"]},
        {"name": "image-folder", "root": "photos", "channels": 4},
        {"name": "image-folder", "root": "photos", "on_bad_image": "ignore"},
        {"name": "digit-scenes", "multi_label": True, "noise": {"rate": 0.1}},
        {"name": "digit-scenes", "multi_label": True, "mixup": 0.2},
        {"name": "image-labels", "root": "photos"},
        {"name": "image-labels", "root": "photos", "labels": "a.csv", "label_separator": ""},
        {"name": "image-labels", "root": "photos", "labels": "a.csv", "noise": {"rate": 0.1}},
        {
            "name": "image-labels",
            "root": "photos",
            "labels": "a.csv",
            "image_size": 32,
            "augment": ["resized-crop"],
        },
        {"name": "yolo-labels", "root": "coco", "labels": "labels.csv"},
        {"name": "yolo-labels", "root": "coco", "cutmix": 1.0},
    ],
)
def test_what_does_nothing_or_cannot_be_is_refused(table):
    assert problems(table)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (
            {"name": "image-labels", "labels": "a.txt"},
            "labels is 'a.txt'; allowed: a file that ends in .csv or .json",
        ),
        (
            {"name": "image-labels", "labels": "a.json", "label_separator": ","},
            "label_separator works on CSV files",
        ),
        (
            {"name": "yolo-labels", "names": "a.json"},
            "found 'a.json'; allowed: a file that ends in .yaml, .yml or",
        ),
        (
            {"name": "yolo-labels", "mixup": 0.2},
            "noise, mixup, cutmix and class_split work on one label an image, and this data",
        ),
    ],
)
def test_what_the_sources_of_several_labels_refuse(table, reason):
    [(_, message)] = problems({"root": "photos", **table})
    assert reason in message


@pytest.mark.parametrize(
    ("noise", "reason"),
    [
        ({}, 'rate is missing; kind = "symmetric" needs rate'),
        ({"kind": "pairflip", "seed": 3}, 'rate is missing; kind = "pairflip" needs rate'),
        ({"rate": 0.2, "file": "a.csv"}, 'found file, which does nothing with kind = "symmetric"'),
        ({"kind": "matrix"}, 'file is missing; kind = "matrix" needs file'),
        (
            {"kind": "matrix", "file": "a.csv", "rate": 0.2},
            'found rate, which does nothing with kind = "matrix"',
        ),
        ({"kind": "matrix", "file": "a.csv", "column": "worse"}, "found column, which does nothing"),
        ({"kind": "file", "file": "a.csv"}, 'column is missing; kind = "file" needs file and column'),
        ({"kind": "file", "column": "worse"}, "file is missing"),
        ({"kind": "file", "file": "a.csv", "column": "worse", "rate": 0.0}, "found rate, which does nothing"),
        ({"kind": "file", "file": "a.csv", "column": "worse", "seed": 1}, "draws nothing; remove seed"),
    ],
)
def test_keys_of_noise_that_a_kind_lacks_or_does_not_read(noise, reason):
    [(place, message)] = problems({"name": "digits", "noise": noise})
    assert place[-1] == "noise"
    assert reason in message


@pytest.mark.parametrize(
    "noise",
    [
        {"rate": 0},
        {"kind": "symmetric-inclusive", "rate": 1, "seed": 5},
        {"kind": "asymmetric", "rate": 0.4},
        {"kind": "pairflip", "rate": 0.45},
        {"kind": "matrix", "file": "a.csv", "seed": 2},
        {"kind": "file", "file": "a.csv.gz", "column": "worse"},
    ],
)
def test_kinds_of_noise_survive_json(noise):
    config = read({"name": "digits", "noise": noise})
    assert ADAPTER.validate_json(ADAPTER.dump_json(config)) == config
    assert noise.items() <= {**config.noise.model_dump(mode="json"), "kind": config.noise.kind}.items()


def test_which_sources_give_rows():
    given = {
        "digits": {},
        "digit-scenes": {},
        "image-folder": {"root": "photos"},
        "image-labels": {"root": "photos", "labels": "labels.csv"},
        "yolo-labels": {"root": "photos"},
    }
    giving = {name for name, keys in given.items() if read({"name": name, **keys}).gives_rows}
    assert giving == {"image-labels", "yolo-labels"}
    assert read({"name": "digit-scenes", "multi_label": True}).gives_rows


def test_all_errors_come_at_once():
    assert len(problems({"name": "digits", "root": "here", "image_size": "big", "validation": 2})) == 3


def test_the_schema_is_json():
    assert "train_size" in json.dumps(ADAPTER.json_schema())


def test_the_sets_offered_exist_in_torchvision():
    import torchvision.datasets

    assert [name for name in TORCHVISION_SETS if not hasattr(torchvision.datasets, name)] == []


def test_settings_import_no_torch():
    code = "import sys, kdcam.data.source_configs; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_bound_on_pixels_is_told_where_it_is_set():
    """A run from before there was the key is of the same recipe."""
    assert "max_pixels" not in ImageFolderConfig(root="x").model_dump()
    assert ImageFolderConfig(root="x", max_pixels=10**8).model_dump()["max_pixels"] == 10**8
    for pixels in (0, 2 * 10**9):
        with pytest.raises(ValidationError, match="max_pixels"):
            ImageFolderConfig(root="x", max_pixels=pixels)
