"""Tests of kdcam.evaluation.robustness.multi_label_attack_report and kdcam.evaluation.robustness.evaluated_images."""

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from sklearn.metrics import average_precision_score
from tensor_batches import TensorBatches
from torch import Tensor, nn

from kdcam.attacks.attack_settings import BimConfig, FgsmConfig, PgdConfig, SquareConfig
from kdcam.errors import DataError, Interrupted, ModelError, RecipeError
from kdcam.evaluation.robustness.multi_label_attack_report import multi_label_attack_report
from kdcam.evaluation.robustness.partial_results import PartialResults
from kdcam.evaluation.robustness.reference_runs import ReferenceNetwork
from kdcam.runtime.progress import Silent


class Halves(nn.Module):
    """Two labels: the left pixel is above a half, the right pixel is above a half."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * (images[:, 0, 0] - 0.5)


class Watcher(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def batches() -> TensorBatches:
    # Left and right pixel; a label nearer to a half than eps can be moved over it.
    pixels = torch.tensor([[0.9, 0.52], [0.1, 0.9], [0.45, 0.1], [0.9, 0.9], [0.48, 0.52], [0.1, 0.1]])
    rows = torch.tensor(
        [[1, 1], [0, 1], [0, 0], [1, 0], [0, 1], [0, 0]]
    ).float()  # one is wrong: image 3, right
    return TensorBatches(pixels[:, None, None], rows)


def test_scores_by_hand(batches: TensorBatches) -> None:
    attacks = [FgsmConfig(eps=0.03), PgdConfig(eps=0.1, steps=5)]
    report = multi_label_attack_report(Halves(), batches, attacks, n_examples=100)
    assert report.images == 6
    assert report.clean.label_acc == pytest.approx(11 / 12)
    assert report.clean.exact_acc == pytest.approx(5 / 6)
    small, large = (row.scores for row in report.rows)
    # eps 0.03 turns 0.52 (image 0), 0.48 and 0.52 (image 4); 0.1 turns 0.45 (image 2) too.
    assert (small.label_acc, small.exact_acc) == pytest.approx((8 / 12, 3 / 6))
    assert (large.label_acc, large.exact_acc) == pytest.approx((7 / 12, 2 / 6))
    assert report.worst_case_label_acc == pytest.approx(7 / 12)
    assert report.worst_case_exact_acc == pytest.approx(2 / 6)
    assert [row.attack for row in report.rows] == ["fgsm", "pgd-5"]
    assert report.subset == "all 6 images of the part"
    assert report.zero_gradients == 0


def test_mean_average_precision_is_that_of_the_attacked_images(batches: TensorBatches) -> None:
    attack = FgsmConfig(eps=0.03)
    model = Halves()
    report = multi_label_attack_report(model, batches, [attack], n_examples=6)
    attacked = attack.perturb(model, batches.images, batches.targets, torch.arange(6))
    for images, scores in ((batches.images, report.clean), (attacked, report.rows[0].scores)):
        expected = average_precision_score(batches.targets.numpy(), model(images).detach().numpy())
        assert scores.mean_ap == pytest.approx(expected)


def test_the_worst_case_is_by_decision() -> None:
    class Sides(nn.Module):
        """The first label falls to a large change of one pixel, the second to small ones of many."""

        def forward(self, images: Tensor) -> Tensor:
            one, many = images[:, 0, 0, 0], images[:, 0, 0, 1:].mean(1)
            return torch.stack([10 * (one - 0.5), 80 * (many - 0.5)], dim=1)

    images = torch.full((2, 1, 1, 65), 1.0)
    images[0, 0, 0] = images[1, 0, 0] = 0.54
    images[:, 0, 0, 0] = torch.tensor([0.60, 0.9])
    data = TensorBatches(images, torch.ones(2, 2))
    # linf 0.05 turns the second label of both; l2 0.2, almost all of it on one pixel, the first label of image 0.
    attacks = [BimConfig(norm="linf", eps=0.05), FgsmConfig(norm="l2", eps=0.2)]
    report = multi_label_attack_report(Sides(), data, attacks, n_examples=2)
    assert report.clean.label_acc == 1.0
    assert [row.scores.label_acc for row in report.rows] == [0.5, 0.75]
    assert report.worst_case_label_acc == 0.25
    assert [row.scores.exact_acc for row in report.rows] == [0.0, 0.5]
    assert report.worst_case_exact_acc == 0.0


def test_a_wrong_decision_that_an_attack_turns_right_stays_wrong_in_the_worst_case() -> None:
    class Tied(nn.Module):
        """The second label goes down where the first goes down, with less weight."""

        def forward(self, images: Tensor) -> Tensor:
            grey = images.mean((1, 2, 3)) - 0.5
            return torch.stack([100 * grey, grey], dim=1)

    data = TensorBatches(torch.full((1, 1, 1, 1), 0.51), torch.tensor([[1.0, 0.0]]))
    report = multi_label_attack_report(Tied(), data, [FgsmConfig(eps=0.05)], n_examples=1)
    assert report.clean.label_acc == 0.5
    assert report.rows[0].scores.label_acc == 0.5
    assert report.worst_case_label_acc == 0.0


@pytest.mark.parametrize("images", [3, 4, 6])
def test_batch_size_does_not_matter_and_the_first_images_are_taken(
    batches: TensorBatches, images: int
) -> None:
    attacks = [PgdConfig(eps=0.05, steps=2, restarts=2)]
    reports = []
    for size in (1, 4, 6):
        batches.batch_size = size
        reports.append(multi_label_attack_report(Halves(), batches, attacks, n_examples=images))
    assert reports[0] == reports[1] == reports[2]
    assert reports[0].images == images


def test_a_report_goes_to_json(batches: TensorBatches) -> None:
    report = multi_label_attack_report(Halves(), batches, [PgdConfig(steps=2)], n_examples=4)
    document = json.loads(json.dumps(report.to_json()))
    assert document["task"] == "multi-label"
    assert document["clean"].keys() == {"label_acc", "mean_ap", "exact_acc"}
    assert document["rows"][0]["settings"]["steps"] == 2
    assert document["rows"][0]["scores"].keys() == document["clean"].keys()
    assert document["subset"] == "the first 4 images of the part, in its order"


def test_no_positives_have_no_average_precision(batches: TensorBatches) -> None:
    data = TensorBatches(batches.images, torch.zeros(6, 2))
    report = multi_label_attack_report(Halves(), data, [FgsmConfig(eps=0.03)], n_examples=6)
    assert report.clean.mean_ap is None
    assert report.rows[0].scores.mean_ap is None


def test_zero_gradients_are_counted_and_warned_of(batches: TensorBatches) -> None:
    model = Halves()
    with torch.no_grad():
        model.scale.fill_(1e5)
    data = TensorBatches(batches.images, (batches.images[:, 0, 0] > 0.5).float())
    watcher = Watcher()
    report = multi_label_attack_report(model, data, [FgsmConfig()], n_examples=6, progress=watcher)
    assert report.zero_gradients == 6
    assert watcher.warnings[0].startswith("6 of 6 attacked images have a zero gradient")


def test_what_cannot_be_attacked_is_named(batches: TensorBatches) -> None:
    with pytest.raises(DataError, match="no image"):
        multi_label_attack_report(
            Halves(), TensorBatches(torch.zeros(0, 1, 1, 2), torch.zeros(0, 2)), [FgsmConfig()], n_examples=1
        )
    labels = TensorBatches(batches.images, torch.zeros(6, dtype=torch.int64))
    with pytest.raises(DataError, match=r"shape \(4,\) where the classifier gives \(4, 2\)"):
        multi_label_attack_report(Halves(), labels, [FgsmConfig()], n_examples=6)
    with pytest.raises(DataError, match=r"\(4, 3\)"):
        multi_label_attack_report(
            Halves(), TensorBatches(batches.images, torch.zeros(6, 3)), [FgsmConfig()], n_examples=6
        )
    with pytest.raises(ValueError, match=r"no attacks"):
        multi_label_attack_report(Halves(), batches, [], n_examples=6)
    broken = Halves()
    with torch.no_grad():
        broken.scale.fill_(torch.nan)
    with pytest.raises(ModelError, match="not finite"):
        multi_label_attack_report(broken, batches, [FgsmConfig()], n_examples=6)


def test_attacks_that_need_one_label_are_refused(batches: TensorBatches) -> None:
    with pytest.raises(RecipeError, match=r"attacks: square: needs one label an image"):
        multi_label_attack_report(Halves(), batches, [FgsmConfig(), SquareConfig()], n_examples=6)


class Killed(BaseException):
    pass


class Dying(PgdConfig):
    """Stands for a process that is killed after ``batches_left`` batches."""

    batches_left: ClassVar[int] = 1

    def perturb(self, model: nn.Module, images: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        if type(self).batches_left == 0:
            raise Killed
        type(self).batches_left -= 1
        return super().perturb(model, images, targets, indices)


def test_a_killed_evaluation_goes_on(
    batches: TensorBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches.batch_size = 2
    attacks = [FgsmConfig(eps=0.03), Dying(eps=0.1, steps=2)]
    with pytest.raises(Killed):
        multi_label_attack_report(
            Halves(), batches, attacks, n_examples=6, partial=PartialResults(tmp_path, key="k")
        )
    monkeypatch.setattr(Dying, "batches_left", 2)  # the other two of three batches
    again = PartialResults(tmp_path, key="k")
    resumed = multi_label_attack_report(Halves(), batches, attacks, n_examples=6, partial=again)
    monkeypatch.setattr(Dying, "batches_left", 3)
    assert resumed == multi_label_attack_report(Halves(), batches, attacks, n_examples=6)


def test_a_clean_pass_goes_on_with_another_batch_size(batches: TensorBatches, tmp_path: Path) -> None:
    class Dying(Halves):
        left = 4  # passes: two of logits and two of gradients

        def forward(self, images: Tensor) -> Tensor:
            if self.left == 0:
                raise Killed
            self.left -= 1
            return super().forward(images)

    batches.batch_size = 2
    attacks = [FgsmConfig(eps=0.03)]
    with pytest.raises(Killed):
        multi_label_attack_report(
            Dying(), batches, attacks, n_examples=6, partial=PartialResults(tmp_path, key="k")
        )
    partial = PartialResults(tmp_path, key="k")
    assert bytes(partial.marks("clean", 6).tolist()) == b"1111.."
    batches.batch_size = 3
    resumed = multi_label_attack_report(Halves(), batches, attacks, n_examples=6, partial=partial)
    assert resumed == multi_label_attack_report(Halves(), batches, attacks, n_examples=6)


def test_stopping_is_heard_between_the_batches_of_the_clean_pass(batches: TensorBatches) -> None:
    class Stopping(Silent):
        batches = 0

        def advance(self, task: str, done: int, total: int) -> None:
            self.batches += 1

        def should_stop(self) -> bool:
            return True

    batches.batch_size = 1
    watcher = Stopping()
    with pytest.raises(Interrupted):
        multi_label_attack_report(Halves(), batches, [FgsmConfig()], n_examples=3, progress=watcher)
    assert watcher.batches == 1


def test_passes_budgets_and_a_source(batches: TensorBatches) -> None:
    attacks = [FgsmConfig(eps=0.1), FgsmConfig(eps=0.03)]
    source = ReferenceNetwork("other", Halves())
    report = multi_label_attack_report(Halves(), batches, attacks, n_examples=6, source=source)
    assert [row.attack for row in report.rows] == ["fgsm", "fgsm", "fgsm from other", "fgsm from other"]
    assert all((row.forwards, row.backwards) == (1, 1) for row in report.rows)
    assert [point.eps for point in report.curve] == [0.03, 0.1]
    assert [point.worst_case_label_acc for point in report.curve] == pytest.approx([8 / 12, 7 / 12])
