"""Tests of kdcam.evaluation.robustness.out_of_distribution."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score, roc_curve
from small_runs import small_recipe
from torch import Tensor

import kdcam
from kdcam.errors import DataError, RecipeError
from kdcam.evaluation.robustness.out_of_distribution import (
    energy,
    foreign_batches,
    foreign_config,
    max_softmax,
    out_of_distribution_report,
    unlabelled_batches,
    with_channels,
)
from kdcam.runs.open_run import LoadedRun, load_run
from kdcam.runtime.progress import Silent
from kdcam.scores.ranking import fpr_at_95


def logits(count: int, *, scale: float, seed: int) -> Tensor:
    return scale * torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))


def test_scores_by_hand() -> None:
    rows = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    assert max_softmax(rows).tolist() == pytest.approx([0.5, np.exp(2) / (np.exp(2) + 1)])
    assert energy(rows).tolist() == pytest.approx([np.log(2), np.log(np.exp(2) + 1)])
    assert torch.allclose(max_softmax(rows + 7), max_softmax(rows))
    assert torch.allclose(energy(rows + 7), energy(rows) + 7)


def test_report_is_scikit_learns() -> None:
    own, foreign = logits(400, scale=3, seed=0), logits(300, scale=2, seed=1)
    found = out_of_distribution_report(own, foreign)
    assert (found.own_images, found.foreign_images) == (400, 300)
    truth = np.r_[np.ones(400), np.zeros(300)]
    assert [row.score for row in found.rows] == ["max_softmax", "energy"]
    for row, score in zip(found.rows, (max_softmax, energy), strict=True):
        scores = torch.cat([score(own), score(foreign)]).numpy()
        assert row.auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
        false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
        assert row.fpr_at_95 == pytest.approx(false[true >= 0.95][0], abs=1e-12)
        assert row.auroc > 0.6


@pytest.mark.parametrize("count", [1, 7, 20, 40, 133])
def test_threshold_lets_in_no_fewer_than_its_share(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    positives = torch.randint(0, 9, (count,), generator=generator).double()  # with ties
    negatives = torch.randint(0, 9, (50,), generator=generator).double()
    candidates = [
        float((negatives >= threshold).double().mean())
        for threshold in positives.unique()
        if (positives >= threshold).double().mean() >= 0.95 - 1e-12
    ]
    assert fpr_at_95(positives, negatives) == min(candidates)


def test_nineteen_of_twenty_are_enough() -> None:
    positives = torch.tensor([1.0] * 19 + [0.0])
    assert fpr_at_95(positives, torch.tensor([0.5, 0.5, 1.0, 2.0])) == 0.5


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"logits of the foreign images have shape \(0, 5\)"):
        out_of_distribution_report(torch.zeros(3, 5), torch.zeros(0, 5))
    with pytest.raises(DataError, match=r"logits of the own images have shape \(3,\)"):
        out_of_distribution_report(torch.zeros(3), torch.zeros(2, 5))


class Told(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    for place, shade in (("a", 0), ("b/c", 200)):
        (tmp_path / place).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (20, 14), (shade + number, 0, 0)).save(tmp_path / place / f"{number}.png")
    told = Told()
    arguments = {
        "image_size": 8,
        "channels": 3,
        "batch_size": 6,
        "device": torch.device("cpu"),
        "progress": told,
    }
    found = unlabelled_batches(tmp_path, **arguments)
    parts = list(found.epoch(0))
    assert found.num_images == 20
    assert [tuple(part.images.shape) for part in parts] == [(6, 3, 8, 8)] * 3 + [(2, 3, 8, 8)]
    assert set(torch.cat([part.targets for part in parts]).tolist()) == {-1}
    shades = [(part.images[:, 0, 0, 0] * 255).round().int().tolist() for part in parts]
    assert sorted(shade for part in shades for shade in part) == [*range(10), *range(200, 210)]
    assert min(shades[0]) < 100 < max(shades[0]), "the first ones are of both folders"
    (tmp_path / "a" / "0.png").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("no picture")
    assert unlabelled_batches(tmp_path, **arguments).num_images == 19
    assert "1 files that are no pictures" in told.messages[0]
    assert "1 of 20 files cannot be read as pictures: " in told.warnings[0]
    assert "0.png: the file is empty" in told.warnings[0]
    with pytest.raises(
        DataError, match=r"out of distribution: .*none is not there; name a folder of pictures"
    ):
        unlabelled_batches(tmp_path / "none", **arguments)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedRun:
    run = kdcam.train(small_recipe(epochs=1), output=tmp_path_factory.mktemp("runs") / "run", device="cpu")
    return load_run(run.path, device="cpu")


def test_a_data_set_by_its_name_in_the_runs_size(loaded: LoadedRun) -> None:
    found = foreign_batches("digits", loaded, batch_size=50, progress=Silent())
    assert found.num_images == 497
    assert len(found) == 10
    batch = next(iter(found.epoch(0)))
    assert batch.images.shape == (50, loaded.classifier.in_channels, 16, 16)


def test_the_test_part_of_a_run(loaded: LoadedRun) -> None:
    found = foreign_batches(str(loaded.path), loaded, batch_size=50, progress=Silent())
    own = next(iter(loaded.batches(loaded.part("test")).epoch(0)))
    assert torch.equal(next(iter(found.epoch(0))).images, own.images)


def test_a_run_whose_training_does_not_go_with_the_size(loaded: LoadedRun, tmp_path: Path) -> None:
    from PIL import Image

    for name in "ab":
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (20, 20), (20 * number, 0, 0)).save(
                tmp_path / "pictures" / name / f"{number}.png"
            )
    table = {
        "name": "image-folder",
        "root": str(tmp_path / "pictures"),
        "image_size": 80,
        "augment": ["resized-crop"],  # of large pictures alone
        "mixup": 0.2,
        "workers": 0,
    }
    other = kdcam.train(small_recipe(epochs=1, data=table), output=tmp_path / "run", device="cpu")
    config = foreign_config(str(other.path), 16)
    assert (config.augment, config.mixup) == ((), 0)
    found = foreign_batches(str(other.path), loaded, batch_size=50, progress=Silent())
    assert next(iter(found.epoch(0))).images.shape[1:] == (loaded.classifier.in_channels, 16, 16)


def test_a_folder_of_pictures(loaded: LoadedRun, tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (20, 20), (80 * number, 0, 0)).save(tmp_path / f"{number}.png")
    found = foreign_batches(str(tmp_path), loaded, batch_size=2, progress=Silent())
    assert [len(batch.images) for batch in found.epoch(0)] == [2, 1]


def test_gray_and_colour() -> None:
    gray = torch.tensor([0.2, 0.6])[None, None, None]
    assert torch.equal(with_channels(gray, 3), gray.repeat(1, 3, 1, 1))
    assert with_channels(gray, 1) is gray
    torch.testing.assert_close(with_channels(gray.repeat(1, 3, 1, 1), 1), gray)
    pure = torch.eye(3)[None, :, :, None]
    torch.testing.assert_close(with_channels(pure, 1).flatten(), torch.tensor([0.299, 0.587, 0.114]))


def test_what_is_no_data_is_named_before_it_is_read() -> None:
    with pytest.raises(
        RecipeError, match=r"ood: found 'digitz'; did you mean 'digits'\?.*a folder of pictures, a run"
    ):
        foreign_config("digitz", 16)
    with pytest.raises(RecipeError, match=r"ood.*image_size: found 8; must be at least 16"):
        foreign_config("digit-scenes", 8)
    assert foreign_config("mnist=somewhere", 28).root == Path("somewhere")  # type: ignore[union-attr]
