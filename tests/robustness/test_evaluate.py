"""Tests of kdcam.robustness.evaluate and kdcam.robustness.memorisation."""

import json

import pytest
import torch
from tensor_batches import TensorBatches
from torch import Tensor, nn

from kdcam.errors import DataError, ModelError
from kdcam.progress import Silent
from kdcam.robustness.config import BimConfig, FgsmConfig, PgdConfig
from kdcam.robustness.evaluate import attack_report
from kdcam.robustness.memorisation import memorisation


class Threshold(nn.Module):
    """Says 1 where the mean pixel is above a half, else 0."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1).eval()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images: Tensor) -> Tensor:
        score = self.scale * (images.mean((1, 2, 3)) - 0.5)
        return torch.stack([-score, score], dim=1)


class Watcher(Silent):
    def __init__(self) -> None:
        self.done: list[tuple[int, int]] = []
        self.warnings: list[str] = []

    def advance(self, task: str, done: int, total: int) -> None:
        self.done.append((done, total))

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def batches() -> TensorBatches:
    # Grey images; those nearer to a half than eps can be moved over it. The last two are wrong.
    greys = torch.tensor([0.9, 0.7, 0.55, 0.52, 0.1, 0.3, 0.45, 0.48, 0.9, 0.1])
    targets = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0, 0, 1])
    return TensorBatches(greys[:, None, None, None].expand(10, 1, 4, 4), targets, batch_size=4)


def test_accuracies_are_over_all_images(batches: TensorBatches) -> None:
    attacks = [FgsmConfig(eps=0.03), PgdConfig(eps=0.1, steps=5)]
    report = attack_report(Threshold(), batches, attacks, n_examples=100)
    assert report.images == 10
    assert report.clean_acc == 0.8
    assert [row.attack for row in report.rows] == ["fgsm", "pgd-5"]
    assert [row.robust_acc for row in report.rows] == [0.6, 0.4]
    assert [row.success_rate for row in report.rows] == [0.25, 0.5]
    assert report.worst_case_acc == 0.4
    assert report.zero_gradients == 0
    assert report.subset == "all 10 images of the part"


def test_worst_case_is_by_image_not_the_lowest_accuracy() -> None:
    class Sides(nn.Module):
        """Right where the first pixel is above 0.2 and the others are above a half on average."""

        def forward(self, images: Tensor) -> Tensor:
            left, right = images[:, 0, 0, 0] - 0.2, images[:, 0, 0, 1:].mean(1) - 0.5
            score = torch.minimum(10 * left, 100 * right)
            return torch.stack([-score, score], dim=1)

    # The first image falls to a large change of one pixel (l2), the second to a small one of many (linf).
    images = torch.full((2, 1, 1, 65), 1.0)
    images[0, 0, 0, 0] = 0.29
    images[1, 0, 0, 1:] = 0.54
    data = TensorBatches(images, torch.ones(2, dtype=torch.int64))
    attacks = [FgsmConfig(norm="l2", eps=0.2), BimConfig(norm="linf", eps=0.05)]
    report = attack_report(Sides(), data, attacks, n_examples=2)
    assert [row.robust_acc for row in report.rows] == [0.5, 0.5]
    assert report.worst_case_acc == 0.0


def test_the_first_images_are_taken(batches: TensorBatches) -> None:
    watcher = Watcher()
    report = attack_report(Threshold(), batches, [FgsmConfig(eps=0.03)], n_examples=6, progress=watcher)
    assert report.images == 6
    assert report.clean_acc == 1.0
    assert report.rows[0].robust_acc == pytest.approx(5 / 6)
    assert report.subset == "the first 6 images of the part, in its order"
    assert watcher.done == [(4, 6), (6, 6)]
    assert watcher.warnings == []


def test_batch_size_does_not_matter(batches: TensorBatches) -> None:
    attacks = [PgdConfig(eps=0.05, steps=2, restarts=2)]
    reports = []
    for size in (1, 3, 10):
        batches.batch_size = size
        reports.append(attack_report(Threshold(), batches, attacks, n_examples=9))
    assert reports[0] == reports[1] == reports[2]


def test_modes_gradients_and_random_state_stay(batches: TensorBatches) -> None:
    model = Threshold().train()
    model.norm.eval()
    random_state = torch.get_rng_state()
    attack_report(model, batches, [PgdConfig(steps=2)], n_examples=10)
    assert (model.training, model.norm.training) == (True, False)
    assert model.scale.grad is None
    assert torch.equal(torch.get_rng_state(), random_state)


def test_zero_gradients_are_counted_and_warned_of(batches: TensorBatches) -> None:
    model = Threshold()
    with torch.no_grad():
        model.scale.fill_(1e5)
    watcher = Watcher()
    report = attack_report(model, batches, [FgsmConfig()], n_examples=10, progress=watcher)
    assert report.zero_gradients == 8
    assert report.rows[0].robust_acc == 0.8
    assert watcher.warnings == [
        "8 of 10 images have a zero gradient, so attacks that follow it cannot move them: "
        "these numbers do not show their robustness"
    ]


def test_a_report_goes_to_json_with_its_settings(batches: TensorBatches) -> None:
    report = attack_report(Threshold(), batches, [PgdConfig(steps=2)], n_examples=10)
    document = json.loads(json.dumps(report.to_json()))
    assert document["loss"] == "cross-entropy"
    assert document["rows"][0]["settings"] == {
        "name": "pgd",
        "norm": "linf",
        "eps": 8 / 255,
        "alpha": 2 / 255,
        "steps": 2,
        "restarts": 1,
        "seed": 0,
    }


def test_a_network_that_is_never_right() -> None:
    data = TensorBatches(torch.full((3, 1, 4, 4), 0.9), torch.zeros(3, dtype=torch.int64))
    report = attack_report(Threshold(), data, [FgsmConfig()], n_examples=3)
    assert (report.clean_acc, report.worst_case_acc, report.rows[0].robust_acc) == (0, 0, 0)
    assert report.rows[0].success_rate is None


def test_what_cannot_be_attacked_is_named(batches: TensorBatches) -> None:
    empty = TensorBatches(torch.zeros(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="no image"):
        attack_report(Threshold(), empty, [FgsmConfig()], n_examples=10)
    rows = TensorBatches(batches.images, torch.zeros(10, 2))
    with pytest.raises(DataError, match="one label an image"):
        attack_report(Threshold(), rows, [FgsmConfig()], n_examples=10)
    with pytest.raises(ValueError, match="0 attacks"):
        attack_report(Threshold(), batches, [], n_examples=10)
    broken = Threshold()
    with torch.no_grad():
        broken.scale.fill_(torch.nan)
    with pytest.raises(ModelError, match="not finite"):
        attack_report(broken, batches, [FgsmConfig()], n_examples=10)


def test_memorisation_by_hand(batches: TensorBatches) -> None:
    # Predicted: 1 1 1 1 0 0 0 0 1 0.
    clean = torch.tensor([1, 1, 1, 1, 0, 0, 1, 1, 0, 0])
    noisy = torch.tensor([1, 1, 0, 1, 0, 0, 0, 0, 1, 1])
    model = Threshold().train()
    found = memorisation(model, batches, clean, noisy)
    assert model.training
    assert found.images == 10
    assert found.wrong_labels == 5  # images 2, 6, 7, 8, 9
    assert found.memorised == pytest.approx(3 / 5)  # 6, 7, 8
    assert found.recovered == pytest.approx(2 / 5)  # 2, 9
    assert found.clean_label_acc == 1.0


def test_memorisation_without_wrong_labels(batches: TensorBatches) -> None:
    labels = torch.zeros(10, dtype=torch.int64)
    found = memorisation(Threshold(), batches, labels, labels)
    assert (found.wrong_labels, found.memorised, found.recovered) == (0, None, None)
    assert memorisation(Threshold(), batches, labels, labels + 1).clean_label_acc is None


def test_labels_of_other_data_are_refused(batches: TensorBatches) -> None:
    labels = torch.zeros(9, dtype=torch.int64)
    with pytest.raises(DataError, match=r"found 10 training images, \(9,\) true"):
        memorisation(Threshold(), batches, labels, labels)
