from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from small_runs import SCENES, small_recipe

import kdcam
from kdcam.data.batches.decoding import read_image
from kdcam.errors import DataError, ModelError
from kdcam.models.classifier import Classifier


@pytest.fixture(scope="module")
def labels_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = {**SCENES, "multi_label": True}
    recipe = small_recipe(task="multi-label", data=data, loss=[{"name": "binary_cross_entropy"}], epochs=1)
    return kdcam.train(recipe, output=tmp_path_factory.mktemp("predicting") / "run", device="cpu").path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them a folder deeper, beside a hidden file."""
    generator = numpy.random.default_rng(0)
    for name in ("b.png", "a.jpg", "deeper/c.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (20, 24, 3), dtype=numpy.uint8)).save(path)
    (tmp_path / "photos" / ".hidden").write_text("x")
    return tmp_path / "photos"


def test_several_labels_have_a_probability_each(labels_run: Path, folder: Path) -> None:
    classifier = kdcam.load(labels_run)
    for prediction in kdcam.predict(labels_run, [folder / "b.png", folder / "a.jpg"], top=99, device="cpu"):
        picture = read_image(prediction.image, image_size=16, channels=1)
        with torch.no_grad():
            expected = classifier(picture[None].float() / 255)[0].sigmoid()
        assert prediction.task == "multi-label"
        assert dict(zip(prediction.labels, prediction.scores, strict=True)) == pytest.approx(
            dict(zip(classifier.label_names, expected.tolist(), strict=True)), abs=1e-6
        )
        assert list(prediction.scores) == sorted(prediction.scores, reverse=True)
        assert sum(prediction.scores) > 1.5  # ten probabilities near 0.5 after so little training


def test_a_folder_stands_for_the_pictures_in_it(labels_run: Path, folder: Path) -> None:
    found = kdcam.predict(labels_run, [folder], top=1, device="cpu")
    assert [one.image for one in found] == [folder / "a.jpg", folder / "b.png", folder / "deeper" / "c.png"]
    assert found[1] == kdcam.predict(labels_run, [folder / "b.png"], top=1, device="cpu")[0]


def test_what_is_no_picture_is_named_before_any_is_classified(labels_run: Path, folder: Path) -> None:
    (folder / "z.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"z\.txt: not an image"):
        kdcam.predict(labels_run, [folder, folder / "z.txt"], device="cpu")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: the folder holds no picture"):
        kdcam.predict(labels_run, [folder / "empty"], device="cpu")
    with pytest.raises(DataError, match=r"nowhere\.png: cannot be opened"):
        kdcam.predict(labels_run, [folder / "b.png", folder / "nowhere.png"], device="cpu")


def test_pictures_whose_logits_are_no_numbers_are_named(
    labels_run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, seen = Classifier.forward, list[int]()

    def broken(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        logits = forward(self, images)
        seen.append(len(images))
        return logits.index_fill(1, torch.tensor([4]), float("-inf")) if len(seen) != 2 else logits

    monkeypatch.setattr(Classifier, "forward", broken)
    with pytest.raises(
        ModelError,
        match=r"run: the logits of 2 of 3 images are not finite .*: \S*a\.jpg, \S*c\.png; the network's",
    ):
        kdcam.predict(labels_run, [folder], device="cpu")
