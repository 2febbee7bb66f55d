"""Tests of kdcam.evaluation.robustness.corruption_report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import Watcher
from tensor_batches import TensorBatches
from torch import Tensor, nn

from kdcam.corruptions.image_corruption import corrupt
from kdcam.errors import DataError, RecipeError
from kdcam.evaluation.robustness.corrupted_sets import ORDER_NOTE, open_corrupted_set
from kdcam.evaluation.robustness.corruption_report import (
    NO_CLEAN_NOTE,
    OWN_CORRUPTIONS,
    PUBLISHED_NOTE,
    CorruptionReport,
    CorruptionRow,
    corrupted_set_report,
    corruption_report,
    relative_errors,
)


class Bright(nn.Module):
    """Says 1 where the mean pixel is above a half, else 0."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        score = images.mean((1, 2, 3)) - 0.5
        return torch.stack([-score, score], dim=1)


@pytest.fixture
def batches() -> TensorBatches:
    # dark pictures turn to 1 when brightness adds 0.08, 0.16, 0.24, 0.34, 0.45; the last one is wrong at once
    greys = torch.tensor([0.45, 0.37, 0.28, 0.20, 0.10, 0.02, 0.9, 0.8, 0.7, 0.3])
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    return TensorBatches(greys[:, None, None, None].expand(10, 1, 4, 4), targets, batch_size=4)


def test_accuracies_by_severity(batches: TensorBatches) -> None:
    found = corruption_report(Bright(), batches, names=["brightness"], n_examples=100)
    assert found.clean_acc == 0.9
    assert found.images == 10
    assert found.subset == "all 10 images of the part"
    (row,) = found.rows
    # 1 to 5 of the dark pictures are lost in turn; the wrong one turns right when 0.24 is added
    assert row.accuracies == (0.8, 0.7, 0.7, 0.6, 0.5)
    assert row.mean_error == pytest.approx(0.34)
    assert found.mean_error == row.mean_error
    assert CorruptionReport.model_validate(json.loads(json.dumps(found.to_json()))) == found


def test_first_images_some_severities_and_a_mean_over_corruptions(batches: TensorBatches) -> None:
    found = corruption_report(
        Bright(), batches, names=["brightness", "contrast", "brightness"], severities=(5, 1), n_examples=6
    )
    assert found.subset == "the first 6 images of the part, in its order"
    assert [(row.name, row.accuracies) for row in found.rows] == [
        ("brightness", (1 / 6, 5 / 6)),
        ("contrast", (1.0, 1.0)),
    ]
    assert found.mean_error == pytest.approx(0.25)


def test_all_names_that_fit_the_channels(batches: TensorBatches) -> None:
    assert len(corruption_report(Bright(), batches, severities=(1,), n_examples=2).rows) == 12
    gray = TensorBatches(batches.images.expand(-1, 3, -1, -1), batches.targets)
    images = gray.images.clone()
    images[-1, 0] += 0.1
    coloured = TensorBatches(images, batches.targets, batch_size=3)
    assert len(corruption_report(Bright(), gray, severities=(1,), n_examples=10).rows) == 12
    assert len(corruption_report(Bright(), coloured, severities=(1,), n_examples=10).rows) == 13
    asked = corruption_report(Bright(), gray, names=["saturation", "fog"], severities=(1,), n_examples=2)
    assert [row.name for row in asked.rows] == ["saturation", "fog"]
    assert asked.note.endswith("; saturation does nothing, the pictures are gray")


def test_batch_size_does_not_matter(batches: TensorBatches) -> None:
    one = TensorBatches(batches.images, batches.targets, batch_size=1)
    found = [corruption_report(Bright(), part, n_examples=9, seed=2) for part in (batches, one)]
    assert found[0] == found[1]


def test_corruptions_are_those_of_the_indices_and_the_seed(batches: TensorBatches) -> None:
    images = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    part = TensorBatches(images, batches.targets, batch_size=3)
    found = corruption_report(
        Bright(), part, names=["gaussian_noise"], severities=(5,), n_examples=10, seed=4
    )
    worse = corrupt("gaussian_noise", images, severity=5, indices=torch.arange(10), seed=4)
    right = (Bright().eval()(worse).argmax(1) == batches.targets).double().mean()
    assert found.rows[0].accuracies == (float(right),)


def test_modes_and_progress(batches: TensorBatches) -> None:
    classifier, watcher = Bright(), Watcher()
    classifier.norm.eval()
    corruption_report(classifier, batches, names=["jpeg"], n_examples=7, progress=watcher)
    assert classifier.training
    assert not classifier.norm.training
    assert watcher.done == [("corruptions", 4, 7), ("corruptions", 7, 7)]


def test_wrong_arguments(batches: TensorBatches) -> None:
    with pytest.raises(RecipeError, match=r"unknown name 'rain'"):
        corruption_report(Bright(), batches, names=["rain"], n_examples=5)
    with pytest.raises(DataError, match=r"'saturation' does nothing to gray"):
        corruption_report(Bright(), batches, names=["saturation"], n_examples=5)
    with pytest.raises(ValueError, match=r"no corruption is named"):
        corruption_report(Bright(), batches, names=[], n_examples=5)
    for severities in ((), (1, 1), (0, 2)):
        with pytest.raises(ValueError, match=r"severities are .*; wanted some of 1 to 5, each once"):
            corruption_report(Bright(), batches, severities=severities, n_examples=5)
    with pytest.raises(ValueError, match=r"n_examples is 0"):
        corruption_report(Bright(), batches, n_examples=0)
    with pytest.raises(DataError, match=r"the part has no image"):
        corruption_report(
            Bright(), TensorBatches(torch.zeros(0, 1, 4, 4), torch.zeros(0).long()), n_examples=5
        )
    rows = TensorBatches(batches.images, torch.zeros(10, 2))
    with pytest.raises(DataError, match=r"targets have shape \(4, 2\); this report needs one label an image"):
        corruption_report(Bright(), rows, n_examples=5)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    labels = np.array([0, 0, 1, 1])
    np.save(tmp_path / "labels.npy", np.tile(labels, 5))
    for name, lost in (("snow", (0, 1, 2, 3, 4)), ("fog", (0, 0, 0, 0, 1))):
        rows = np.zeros((5, 4, 6, 6, 3), dtype=np.uint8)
        for severity, count in enumerate(lost):
            wrong = np.arange(4) < count
            rows[severity] = (255 * np.where(wrong, 1 - labels, labels))[:, None, None, None]
        np.save(tmp_path / f"{name}.npy", rows.reshape(20, 6, 6, 3))
    return tmp_path


def test_published_set(published: Path) -> None:
    found = open_corrupted_set(published, ("dark", "light"), image_size=6, channels=3)
    watcher = Watcher()
    made = corrupted_set_report(Bright(), found, batch_size=3, progress=watcher)
    assert {row.name: row.accuracies for row in made.rows} == {
        "fog": (1.0, 1.0, 1.0, 1.0, 0.75),
        "snow": (1.0, 0.75, 0.5, 0.25, 0.0),
    }
    assert (made.images, made.seed, made.clean_acc, made.source) == (4, None, None, str(published))
    assert made.note == f"{PUBLISHED_NOTE}; {ORDER_NOTE}; {NO_CLEAN_NOTE}"
    assert made.mean_error == pytest.approx((0.05 + 0.5) / 2)
    assert made.subset == "all 4 images of the part"
    assert watcher.done[-1] == ("corruptions", 10, 10)
    first = corrupted_set_report(Bright(), found, names=["snow"], severities=(2,), n_examples=2)
    assert first.rows[0].accuracies == (0.5,)
    assert first.subset == "the first 2 images of the part, in its order"
    every = corrupted_set_report(Bright(), found, names=["snow"], n_examples=4)
    assert every.subset == "all 4 images of the part"


def test_the_clean_accuracy_is_of_the_same_images(published: Path) -> None:
    found = open_corrupted_set(published, ("dark", "light"), image_size=6, channels=3)
    greys = torch.tensor([0.1, 0.9, 0.1, 0.9])  # the second and third are wrong
    images = greys[:, None, None, None].expand(4, 1, 6, 6)

    def clean_acc(*targets: int, count: int = 4, n_examples: int = 4) -> float | None:
        clean = TensorBatches(images[:count], torch.tensor(targets), batch_size=3)
        made = corrupted_set_report(Bright(), found, names=["fog"], clean=clean, n_examples=n_examples)
        assert (NO_CLEAN_NOTE in made.note) == (made.clean_acc is None)
        return made.clean_acc

    assert clean_acc(0, 0, 1, 1) == 0.5
    assert clean_acc(0, 0, 1, 1, n_examples=3) == pytest.approx(1 / 3)
    assert clean_acc(0, 1, 0, 1) is None  # another order
    assert clean_acc(0, 0, 1, count=3, n_examples=3) is None  # another part


def test_published_set_without_corruptions(published: Path) -> None:
    (published / "snow.npy").unlink()
    (published / "fog.npy").unlink()
    found = open_corrupted_set(published, ("dark", "light"), image_size=6, channels=3)
    with pytest.raises(DataError, match=r"holds no NAME.npy beside labels.npy"):
        corrupted_set_report(Bright(), found)


def report(**changes: object) -> CorruptionReport:
    fields: dict[str, object] = {
        "source": OWN_CORRUPTIONS,
        "images": 100,
        "subset": "all",
        "seed": 0,
        "severities": (1, 5),
        "clean_acc": 0.9,
        "rows": (
            CorruptionRow(name="fog", accuracies=(0.8, 0.6), mean_error=0.3),
            CorruptionRow(name="jpeg", accuracies=(0.9, 0.8), mean_error=0.15),
        ),
        "mean_error": 0.225,
        "note": "",
    }
    return CorruptionReport.model_validate(fields | changes)


def test_relative_errors_by_hand() -> None:
    base = report(
        clean_acc=0.95,
        rows=(
            CorruptionRow(name="fog", accuracies=(0.7, 0.1), mean_error=0.6),
            CorruptionRow(name="jpeg", accuracies=(0.85, 0.75), mean_error=0.2),
        ),
    )
    found = relative_errors(report(), base)
    assert [row.error for row in found.rows] == pytest.approx([0.5, 0.75])
    assert found.mean_error == pytest.approx(0.625)
    assert [row.added_error for row in found.rows] == pytest.approx([0.2 / 0.55, 0.05 / 0.15])
    assert found.mean_added_error == pytest.approx((0.2 / 0.55 + 0.05 / 0.15) / 2)


def test_relative_to_itself_is_one_and_to_no_error_is_nothing() -> None:
    found = relative_errors(report(), report())
    assert (found.mean_error, found.mean_added_error) == (1.0, 1.0)
    flawless = report(
        clean_acc=1.0,
        rows=tuple(row.model_copy(update={"mean_error": 0.0}) for row in report().rows),
    )
    found = relative_errors(report(), flawless)
    assert {row.error for row in found.rows} == {row.added_error for row in found.rows} == {None}
    assert found.mean_error is None
    unknown = relative_errors(report(clean_acc=None), report())
    assert (unknown.mean_error, unknown.mean_added_error) == (1.0, None)


def test_relative_to_other_images_is_refused() -> None:
    with pytest.raises(DataError, match=r"images is 100 here and 50 in the base run; evaluate both alike"):
        relative_errors(report(), report(images=50))
    with pytest.raises(DataError, match=r"severities is \(1, 5\) here and \(5, 1\) in the base run"):
        relative_errors(report(), report(severities=(5, 1)))
    with pytest.raises(DataError, match=r"fog, jpeg here and fog in the base run"):
        relative_errors(report(), report(rows=report().rows[:1]))
