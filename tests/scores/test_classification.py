"""Tests of kdcam.scores.classification: hand-worked numbers, torchmetrics, scikit-learn, sums of parts."""

import json

import pytest
import torch
from tensor_batches import TensorBatches
from torch import Tensor, nn

from kdcam.errors import DataError, ModelError
from kdcam.runtime.progress import Silent
from kdcam.scores.classification import (
    ClassificationReport,
    MultiLabelReport,
    ScoreSums,
    average_precision,
    f1,
    multi_label_report,
    score,
)


def report_of(logits: Tensor, targets: Tensor) -> ClassificationReport:
    sums = ScoreSums(logits.shape[1])
    sums.add(logits, targets)
    return sums.report()


@pytest.fixture
def random_case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 8, (997,), generator=generator)
    logits = 2 * torch.randn(997, 8, generator=generator)
    logits[torch.arange(997), targets] += 2
    return logits, targets


def test_by_hand() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    report = report_of(probabilities.log(), torch.tensor([0, 1, 1, 0]))
    assert report.images == 4
    assert report.acc1 == 0.5
    assert report.acc5 is None
    assert report.per_class_acc == (0.5, 0.5, None)
    assert report.mean_class_acc == 0.5
    assert report.confusion == ((1, 0, 1), (1, 1, 0), (0, 0, 0))
    expected = -torch.tensor([0.7, 0.3, 0.8, 0.3], dtype=torch.float64).log().mean()
    assert report.nll == pytest.approx(float(expected), abs=1e-6)
    # Each image has a bin of its own: |1 - 0.7|, |0 - 0.6|, |1 - 0.8|, |0 - 0.4|.
    assert report.ece == pytest.approx((0.3 + 0.6 + 0.2 + 0.4) / 4, abs=1e-6)


def test_mean_class_accuracy_differs_from_accuracy_on_unbalanced_classes() -> None:
    report = report_of(torch.tensor([[1.0, 0.0]]).expand(10, 2), torch.tensor([0] * 9 + [1]))
    assert report.acc1 == 0.9
    assert report.mean_class_acc == 0.5


@pytest.mark.parametrize("classes", [3, 10])
def test_equals_torchmetrics(classes: int) -> None:
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(500, classes, generator=generator)
    targets = torch.randint(0, classes, (500,), generator=generator)
    report = report_of(logits, targets)
    ece = multiclass_calibration_error(logits.softmax(1), targets, classes, n_bins=15, norm="l1")
    assert report.ece == pytest.approx(ece.item(), abs=1e-6)
    micro = multiclass_accuracy(logits, targets, classes, average="micro")
    macro = multiclass_accuracy(logits, targets, classes, average="macro")
    assert report.acc1 == pytest.approx(micro.item(), abs=1e-6)
    assert report.mean_class_acc == pytest.approx(macro.item(), abs=1e-6)
    if classes > 5:
        top5 = multiclass_accuracy(logits, targets, classes, top_k=5, average="micro")
        assert report.acc5 == pytest.approx(top5.item(), abs=1e-6)


def test_confidence_of_exactly_one_falls_in_the_last_bin() -> None:
    report = report_of(torch.tensor([[1000.0, 0.0], [1000.0, 0.0]]), torch.tensor([0, 1]))
    assert report.ece == pytest.approx(0.5)


def test_parts_add_up_to_the_whole_exactly(random_case: tuple[Tensor, Tensor]) -> None:
    logits, targets = random_case
    whole = report_of(logits, targets)
    for world_size in (2, 3):
        total = ScoreSums(8)
        for rank in range(world_size):
            part = ScoreSums(8)
            part.add(logits[rank::world_size], targets[rank::world_size])
            total.merge(part)
        assert total.report() == whole


def test_score_does_not_depend_on_the_batch_size(random_case: tuple[Tensor, Tensor]) -> None:
    logits, targets = random_case[0][:101], random_case[1][:101]
    reports = [
        score(nn.Identity(), TensorBatches(logits, targets, batch_size=size)) for size in (1, 10, 2000)
    ]
    assert reports[0] == reports[1] == reports[2] == report_of(logits, targets)


def test_score_puts_back_every_mode_also_after_an_error() -> None:
    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.dropout = nn.BatchNorm1d(3), nn.Dropout(0.5)
            self.norm.eval()

        def forward(self, images: Tensor) -> Tensor:
            assert not any(module.training for module in self.modules())
            assert not torch.is_grad_enabled()
            return self.dropout(self.norm(images))

    spy = Spy()
    before = {name: tensor.clone() for name, tensor in spy.state_dict().items()}
    first = score(spy, TensorBatches(torch.randn(12, 3), torch.zeros(12, dtype=torch.int64)))
    assert isinstance(first, ClassificationReport)
    with pytest.raises(DataError):
        score(spy, TensorBatches(torch.randn(12, 3), torch.full((12,), 3)))
    assert (spy.training, spy.norm.training, spy.dropout.training) == (True, False, True)
    assert all(torch.equal(before[name], tensor) for name, tensor in spy.state_dict().items())


def test_progress_is_told() -> None:
    seen = []

    class Watcher(Silent):
        def advance(self, task: str, done: int, total: int) -> None:
            seen.append((done, total))

    score(
        nn.Identity(),
        TensorBatches(torch.randn(25, 3), torch.zeros(25).long(), batch_size=10),
        progress=Watcher(),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_reports_go_to_json(random_case: tuple[Tensor, Tensor]) -> None:
    report = report_of(*random_case)
    assert set(report.headline()) == {"acc1", "acc5", "mean_class_acc", "nll", "ece"}
    assert json.loads(json.dumps(report.to_json()))["acc1"] == report.acc1
    assert "acc5" not in report_of(torch.randn(4, 5), torch.arange(4)).headline()


def test_a_label_without_class_is_named() -> None:
    with pytest.raises(
        DataError, match=r"found label 7 where the classifier has 3 classes \(labels 0 to 2\)"
    ):
        report_of(torch.zeros(2, 3), torch.tensor([0, 7]))
    with pytest.raises(DataError, match="found label -1"):
        report_of(torch.zeros(2, 3), torch.tensor([0, -1]))


def test_an_empty_part_is_refused() -> None:
    with pytest.raises(DataError, match="no image"):
        score(nn.Identity(), TensorBatches(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)))


def test_average_precision_by_hand() -> None:
    # Ranks of the positives: 1 and 3; precisions 1/1 and 2/3.
    scores, present = torch.tensor([0.9, 0.8, 0.7, 0.1]), torch.tensor([True, False, True, False])
    assert average_precision(scores, present) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(torch.zeros(4), present) == pytest.approx(0.5)
    assert average_precision(scores, torch.zeros(4, dtype=torch.bool)) is None


def test_average_precision_equals_sklearn_with_ties() -> None:
    from sklearn.metrics import average_precision_score

    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 20, (200, 3), generator=generator).double()
    present = torch.rand(200, 3, generator=generator) < 0.3
    for k in range(3):
        expected = average_precision_score(present[:, k].numpy(), scores[:, k].numpy())
        assert average_precision(scores[:, k], present[:, k]) == pytest.approx(expected, abs=1e-12)


def test_classes_without_positives_are_left_out_of_mean_ap() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [-2.0, -1.0, 0.5]])
    report = multi_label_report(logits, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]))
    assert report.mean_ap == 1
    assert report.classes_without_positives == 1
    assert report.per_class_ap == (1.0, None, 1.0)
    assert report.label_acc == 1
    assert json.loads(json.dumps(report.to_json()))["per_class_ap"] == [1.0, None, 1.0]


def test_score_of_multi_label_targets() -> None:
    logits, targets = torch.randn(25, 4), (torch.rand(25, 4) < 0.5).float()
    found = score(nn.Identity(), TensorBatches(logits, targets))
    assert isinstance(found, MultiLabelReport)
    assert found == multi_label_report(logits, targets)
    assert set(found.headline()) == {"mean_ap", "micro_f1", "macro_f1", "label_acc", "nll"}
    with pytest.raises(DataError, match=r"\(25, 4\).*\(25, 3\)"):
        score(nn.Identity(), TensorBatches(logits[:, :3], targets))


@pytest.fixture
def several_labels() -> tuple[Tensor, Tensor]:
    """Logits and targets of twelve classes, of which 3 and 8 have no positive and 3 is predicted at times."""
    generator = torch.Generator().manual_seed(1)
    targets = (torch.rand(300, 12, generator=generator) < torch.linspace(0.02, 0.6, 12)).float()
    targets[:, [3, 8]] = 0
    logits = torch.randn(300, 12, generator=generator) + 2 * targets - 1
    logits[:, 8] = -9
    return logits, targets


def test_average_precision_of_each_class_equals_torchmetrics_and_sklearn(
    several_labels: tuple[Tensor, Tensor],
) -> None:
    from sklearn.metrics import average_precision_score
    from torchmetrics.classification import MultilabelAveragePrecision

    logits, targets = several_labels
    report = multi_label_report(logits, targets)
    known = [k for k in range(12) if k not in (3, 8)]
    assert [k for k in range(12) if report.per_class_ap[k] is None] == [3, 8]
    assert report.classes_without_positives == 2
    found = [report.per_class_ap[k] for k in known]
    probabilities, present = logits.sigmoid()[:, known], targets[:, known].long()
    each = MultilabelAveragePrecision(len(known), average="none")(probabilities, present)
    macro = MultilabelAveragePrecision(len(known), average="macro")(probabilities, present)
    assert found == pytest.approx(each.tolist(), abs=1e-6)
    assert report.mean_ap == pytest.approx(macro.item(), abs=1e-6)
    by_sklearn = average_precision_score(present.numpy(), logits[:, known].numpy(), average=None)
    assert found == pytest.approx(by_sklearn.tolist(), abs=1e-12)
    assert report.mean_ap == pytest.approx(
        average_precision_score(present.numpy(), logits[:, known].numpy(), average="macro"), abs=1e-12
    )


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.83])
def test_f1_equals_sklearn(several_labels: tuple[Tensor, Tensor], threshold: float) -> None:
    from sklearn.metrics import f1_score

    logits, targets = several_labels
    report = multi_label_report(logits, targets, threshold=threshold)
    said, present = (logits.double().sigmoid() > threshold).numpy(), targets.bool().numpy()
    known = [k for k in range(12) if k not in (3, 8)]
    each = f1_score(present, said, average=None, zero_division=0)
    assert [report.per_class_f1[k] for k in known] == pytest.approx(each[known].tolist(), abs=1e-12)
    assert report.per_class_f1[3] is report.per_class_f1[8] is None
    macro = f1_score(present, said, labels=known, average="macro", zero_division=0)
    assert report.macro_f1 == pytest.approx(macro, abs=1e-12)
    micro = f1_score(present, said, average="micro", zero_division=0)
    assert report.micro_f1 == pytest.approx(micro, abs=1e-12)
    assert report.label_acc == pytest.approx((said == present).mean(), abs=1e-12)
    assert report.threshold == threshold


def test_f1_by_hand() -> None:
    # Said and there: 1; said only: 1; there only: 2.
    said, present = torch.tensor([1, 1, 0, 0, 0]).bool(), torch.tensor([1, 0, 1, 1, 0]).bool()
    assert f1(said, present) == pytest.approx(2 / (2 + 1 + 2))
    assert f1(torch.zeros(3).bool(), torch.ones(3).bool()) == 0
    assert f1(torch.zeros(3).bool(), torch.zeros(3).bool()) is None


def test_the_threshold_is_a_probability_and_its_ends_say_all_or_nothing() -> None:
    logits, targets = torch.tensor([[0.0, 2.0], [-50.0, 50.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert multi_label_report(logits, targets).label_acc == 0.5  # a probability of 0.5 is not above 0.5
    assert multi_label_report(logits, targets, threshold=0).label_acc == 0.5
    assert multi_label_report(logits, targets, threshold=1).micro_f1 == 0
    assert multi_label_report(logits, targets, threshold=0.9).label_acc == 0.75
    report = score(nn.Identity(), TensorBatches(logits, targets), threshold=0.9)
    assert report == multi_label_report(logits, targets, threshold=0.9)


def test_a_part_without_any_label_has_no_precision_and_no_f1() -> None:
    report = multi_label_report(torch.full((3, 2), -4.0), torch.zeros(3, 2))
    assert (report.mean_ap, report.micro_f1, report.macro_f1) == (None, None, None)
    assert set(report.headline()) == {"label_acc", "nll"}


BROKEN = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("value", BROKEN)
def test_logits_that_are_no_numbers_are_not_scored_as_class_0(value: float) -> None:
    sums, logits = ScoreSums(3), torch.zeros(4, 3)
    logits[2, 1] = value
    with pytest.raises(ModelError, match=r"scoring: the logits of 1 of 4 images are not finite"):
        sums.add(logits, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ModelError, match=r"scoring: the logits of 1 of 4 images are not finite"):
        multi_label_report(logits, torch.zeros(4, 3))


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("several", [False, True])
def test_a_part_says_of_how_many_of_its_images_the_logits_are_broken(value: float, several: bool) -> None:
    images = torch.zeros(10, 3, 1, 1)
    images[[1, 5, 9], 2] = value
    targets = torch.zeros(10, 3) if several else torch.zeros(10, dtype=torch.int64)
    with pytest.raises(
        ModelError, match=r"scoring: the logits of 3 of 10 images are not finite .*: 1, 5, 9, counted from 0"
    ):
        score(nn.Flatten(), TensorBatches(images, targets))
