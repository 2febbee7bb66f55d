from pathlib import Path

import pytest

from kdcam.data.sources.part_names import by_part, look_like_parts_together, looks_like_part, part_of
from kdcam.errors import DataError


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(
            (name, "train")
            for name in (
                "train",
                "TRAIN",
                "Training",
                "training_set",
                "TrainSet",
                "train data",
                "train-split",
            )
        ),
        *(
            (name, "validation")
            for name in ("val", "Valid", "validation", "validation_set", "ValSet", "dev", "dev-set")
        ),
        *(
            (name, "test")
            for name in ("test", "Testing", "test_set", "testset", "Test Data", "eval", "evaluation")
        ),
        *(
            (name, None)
            for name in (
                "train2017",
                "train_images",
                "trains",
                "contest",
                "station",
                "dataset",
                "invalid",
                "",
            )
        ),
    ],
)
def test_usual_names(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(
            (name, "train")
            for name in (
                "train",
                "train2017",
                "train_images",
                "Images-Train",
                "trainA",
                "trainval",
                "train_val",
            )
        ),
        *((name, "validation") for name in ("val2017", "valid_256", "dev_small")),
        *((name, "test") for name in ("test1", "test (2)", "my test pictures", "holdout")),
        *(
            (name, None)
            for name in (
                "train station",
                "steam_train",
                "crash test",
                "testament",
                "images",
                "a1",
                "dev board",
            )
        ),
    ],
)
def test_names_that_may_be_of_parts(name, part):
    assert looks_like_part(name) == part


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (("seg_pred", "seg_test", "seg_train"), ("seg_test", "seg_train")),
        (("CatsTrain", "catsVal"), ("CatsTrain", "catsVal")),
        (("Testdaten", "Trainingsdaten"), ("Trainingsdaten", "Testdaten")),
        (("crash test", "train station"), None),
        (("Steam Train", "steam_train"), None),
        (("airport", "train_station", "valley", "volcano", "yard"), None),
        (("cats", "dogs"), None),
        (("tr\u00e4ining", "t\u00e9st"), None),
        ((), None),
    ],
)
def test_names_that_look_like_parts_together(names, pair):
    assert look_like_parts_together(names) == pair


def test_folders_by_part():
    folders = [Path("d/Train"), Path("d/boxes"), Path("d/test1")]
    assert by_part(folders) == {"train": Path("d/Train")}
    assert by_part(folders, alike=True) == {"train": Path("d/Train"), "test": Path("d/test1")}
    with pytest.raises(DataError, match="d: has both Train/ and training/ for train; keep one"):
        by_part([*folders, Path("d/training")])
