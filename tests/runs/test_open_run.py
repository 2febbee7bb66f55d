from pathlib import Path

import pytest
import torch
from PIL import Image
from small_runs import Watcher, small_recipe

import kdcam
from kdcam.errors import CheckpointError, DataError
from kdcam.runs.open_run import load_run, recipe_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("open_run") / "run"
    return kdcam.train(small_recipe(), output=output, device="cpu").path


def test_load_gives_the_scored_weights_in_eval_mode(run: Path) -> None:
    classifier = kdcam.load(run)
    assert not classifier.training
    assert classifier.label_names == tuple(str(digit) for digit in range(10))
    loaded = load_run(run, device="cpu")
    batch = next(iter(loaded.batches(loaded.part("test")).epoch(0)))
    assert torch.equal(classifier(batch.images), loaded.classifier(batch.images))


def test_folders_that_hold_no_run(tmp_path: Path, run: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no recipe\.json"):
        recipe_of(tmp_path)
    with pytest.raises(CheckpointError, match=r"nowhere: is not there; name a run folder"):
        recipe_of(tmp_path / "nowhere")
    with pytest.raises(CheckpointError):
        kdcam.load(tmp_path / "nowhere")
    assert recipe_of(run) == small_recipe()


def _photo_run(folder: Path) -> Path:
    """Return a run on folder/photos: classes a and b of 8 pictures each, and no test part."""
    for name in ("a", "b"):
        (folder / "photos" / name).mkdir(parents=True)
        for index in range(8):
            Image.new("RGB", (16, 16), (index * 30, 0, 0)).save(folder / "photos" / name / f"{index}.png")
    data = {
        "name": "image-folder",
        "root": str(folder / "photos"),
        "image_size": 16,
        "test": 0.0,
        "validation": 0.25,
    }
    return kdcam.train(small_recipe(data=data, batch_size=4), output=folder / "run", device="cpu").path


def test_data_that_changed_since_training_is_told(tmp_path: Path) -> None:
    path, watcher = _photo_run(tmp_path), Watcher()
    load_run(path, progress=watcher)
    assert watcher.warnings == []
    for name in ("8", "9", "10", "11"):
        Image.new("RGB", (16, 16)).save(tmp_path / "photos" / "a" / f"{name}.png")
    load_run(path, progress=watcher)
    assert (
        "4 files of its data have been added since it was trained (a/10.png, a/11.png" in watcher.warnings[0]
    )
    (tmp_path / "photos" / "a").rename(tmp_path / "photos" / "c")
    with pytest.raises(DataError, match=r"trained on 2 classes \(a, b\), its data has 2 now \(b, c\)"):
        load_run(path)


def test_part_that_is_not_there(tmp_path: Path) -> None:
    path = _photo_run(tmp_path)
    with pytest.raises(DataError, match="no test part; choose another with --part"):
        kdcam.evaluate(path)
