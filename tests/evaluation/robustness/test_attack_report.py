"""Tests of kdcam.evaluation.robustness.attack_report and kdcam.evaluation.robustness.attack_stages."""

import itertools
import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from tensor_batches import TensorBatches
from torch import Tensor, nn

from kdcam.attacks.attack_settings import (
    AnyAttack,
    BimConfig,
    FgsmConfig,
    PgdConfig,
    SquareConfig,
    StandardConfig,
)
from kdcam.attacks.budget import Norm
from kdcam.errors import DataError, Interrupted, ModelError
from kdcam.evaluation.robustness import attack_stages
from kdcam.evaluation.robustness.attack_report import attack_report
from kdcam.evaluation.robustness.attack_stages import planned_attacks
from kdcam.evaluation.robustness.missed_by_gradients import AttackGain
from kdcam.evaluation.robustness.partial_results import PENDING, PartialResults
from kdcam.evaluation.robustness.reference_runs import ReferenceNetwork
from kdcam.runtime.progress import Silent


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
    assert watcher.done == [(4, 6), (6, 6)] * 2  # clean, then the attack
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
        "8 of 8 attacked images have a zero gradient, so attacks that follow it cannot move them: "
        "these numbers do not show their robustness"
    ]


def test_a_report_goes_to_json_with_its_settings(batches: TensorBatches) -> None:
    report = attack_report(Threshold(), batches, [PgdConfig(steps=2)], n_examples=10)
    document = json.loads(json.dumps(report.to_json()))
    assert document["loss"].startswith("cross-entropy")
    assert document["rows"][0]["settings"] == {
        "name": "pgd",
        "norm": "linf",
        "eps": 8 / 255,
        "alpha": 2 / 255,
        "steps": 2,
        "stop_when_fooled": True,
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
    with pytest.raises(ValueError, match=r"no attacks"):
        attack_report(Threshold(), batches, [], n_examples=10)
    broken = Threshold()
    with torch.no_grad():
        broken.scale.fill_(torch.nan)
    with pytest.raises(ModelError, match="not finite"):
        attack_report(broken, batches, [FgsmConfig()], n_examples=10)


def test_passes_are_counted_for_each_image_that_was_right(batches: TensorBatches) -> None:
    attacks = [FgsmConfig(eps=0.03), PgdConfig(eps=0.001, steps=3), SquareConfig(eps=0.001, n_queries=7)]
    fgsm, pgd, square = attack_report(Threshold(), batches, attacks, n_examples=10).rows
    assert (fgsm.forwards, fgsm.backwards) == (1, 1)
    assert (pgd.forwards, pgd.backwards) == (3, 3)
    assert square.backwards == 0
    assert 6 <= square.forwards <= 8  # with or without the clean image
    wrong = TensorBatches(batches.images, 1 - (batches.images.mean((1, 2, 3)) > 0.5).long())
    (row,) = attack_report(Threshold(), wrong, attacks[:1], n_examples=10).rows
    assert (row.forwards, row.backwards, row.success_rate) == (None, None, None)


def test_standard_attacks_what_the_stage_before_left(batches: TensorBatches) -> None:
    standard = StandardConfig(eps=0.04, apgd_steps=3, n_queries=5)
    report = attack_report(Threshold(), batches, [standard], n_examples=10)
    (row,) = report.rows
    assert [stage.attack for stage in row.stages] == ["apgd-ce-3", "cw-margin-3", "square-5"]  # two classes
    assert [stage.attacked for stage in row.stages] == [8, 6, 6]  # 0.52 and 0.48 fall at once
    assert [stage.robust_acc for stage in row.stages] == [0.6] * 3
    assert row.robust_acc == report.worst_case_acc == 0.6
    spent = sum(stage.forwards * stage.attacked for stage in row.stages)
    assert row.forwards == pytest.approx(spent / 8)


def test_a_curve_has_a_point_for_each_budget(batches: TensorBatches) -> None:
    attacks = [FgsmConfig(eps=eps) for eps in (0.1, 0.03)] + [BimConfig(eps=0.03, steps=2)]
    report = attack_report(Threshold(), batches, attacks, n_examples=10)
    assert [(point.eps, point.worst_case_acc) for point in report.curve] == [(0.03, 0.6), (0.1, 0.4)]
    assert [row.eps for row in report.rows] == [0.1, 0.03, 0.03]


def test_a_curve_never_rises() -> None:
    class Wrapped(nn.Module):
        """Right but for grey levels in a narrow band: a long step jumps over it."""

        def forward(self, images: Tensor) -> Tensor:
            grey = images.mean((1, 2, 3))
            score = 100 * ((grey - 0.45).abs() - 0.02)
            return torch.stack([-score, score], dim=1)

    data = TensorBatches(torch.full((2, 1, 1, 1), 0.5), torch.ones(2, dtype=torch.int64))
    attacks = [FgsmConfig(eps=eps) for eps in (0.05, 0.2)]
    report = attack_report(Wrapped(), data, attacks, n_examples=2)
    assert [row.robust_acc for row in report.rows] == [0, 1]
    assert [point.worst_case_acc for point in report.curve] == [0, 0]
    assert report.worst_case_acc == 0


def test_what_square_alone_fools_is_told(batches: TensorBatches) -> None:
    attacks = [PgdConfig(eps=0.03), SquareConfig(eps=0.03, n_queries=300), FgsmConfig(eps=0.001)]
    gain = attack_report(Blind(), batches, attacks, n_examples=10).black_box_gain
    assert gain == AttackGain(share=0.2, norm="linf", eps=0.03, places=(3, 7))  # 0.52 and 0.48
    honest = attack_report(Threshold(), batches, attacks, n_examples=10).black_box_gain
    assert honest == AttackGain(share=0, norm="linf", eps=0.03, places=())
    assert attack_report(Blind(), batches, attacks[1:], n_examples=10).black_box_gain is None


class Blind(Threshold):
    """Threshold without a gradient: follows no attack, and falls to what was crafted elsewhere."""

    def forward(self, images: Tensor) -> Tensor:
        score = 10 * torch.sign(images.mean((1, 2, 3)) - 0.5) + 0 * self.scale * images.sum()
        return torch.stack([-score, score], dim=1)


def test_attacks_crafted_on_another_network(batches: TensorBatches) -> None:
    attacks = [FgsmConfig(eps=0.03), StandardConfig(eps=0.03, apgd_steps=2, n_queries=2)]
    source = ReferenceNetwork("runs/other", Threshold())
    report = attack_report(Blind(), batches, attacks[:1], n_examples=10, source=source)
    own, crafted = report.rows
    assert (own.attack, crafted.attack) == ("fgsm", "fgsm from runs/other")
    assert (own.robust_acc, crafted.robust_acc) == (0.8, 0.6)
    assert report.worst_case_acc == 0.6
    assert report.transfer_gain == AttackGain(
        share=0.2, norm="linf", eps=0.03, places=(3, 7)
    )  # 0.52 and 0.48
    both = attack_report(Threshold(), batches, attacks, n_examples=10, source=source)
    assert [row.attack for row in both.rows] == ["fgsm", "standard-2-2", "fgsm from runs/other"]
    assert both.transfer_gain is not None
    assert both.transfer_gain.share == 0


def test_the_loss_is_told_of_each_attack(batches: TensorBatches) -> None:
    def loss(*attacks: AnyAttack) -> str:
        return attack_report(Threshold(), batches, attacks, n_examples=2).loss

    assert loss(FgsmConfig(), PgdConfig(steps=1), FgsmConfig(eps=0.01)) == "cross-entropy"
    assert loss(SquareConfig(n_queries=2)) == "margin loss"
    standard = StandardConfig(apgd_steps=2, n_queries=3)  # two classes: cw-margin in the place of apgd-t
    said = "cross-entropy (fgsm, apgd-ce-2), margin loss (cw-margin-2, square-3)"
    assert loss(FgsmConfig(), standard) == said


class Stopping(Silent):
    """Asks to stop at once, and counts the batches that are done all the same."""

    def __init__(self) -> None:
        self.batches = 0

    def advance(self, task: str, done: int, total: int) -> None:
        self.batches += 1

    def should_stop(self) -> bool:
        return True


def test_stopping_is_heard_between_the_batches_of_the_clean_pass(batches: TensorBatches) -> None:
    batches.batch_size = 2
    watcher = Stopping()
    with pytest.raises(Interrupted):
        attack_report(Threshold(), batches, [FgsmConfig()], n_examples=10, progress=watcher)
    assert watcher.batches == 1


class Foreign(PgdConfig):
    """Stands for an attack of another package that keeps to nothing."""

    change: ClassVar[float] = 0.0

    def perturb(self, model: nn.Module, images: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        return images + self.change


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (0.09, r"pgd-10: made images that change by .*where .* eps 0\.08 is allowed; .*leave it out"),
        (float("nan"), r"change by nan"),
    ],
)
def test_an_attack_beyond_its_budget_is_refused(
    batches: TensorBatches, monkeypatch: pytest.MonkeyPatch, norm: Norm, change: float, said: str
) -> None:
    monkeypatch.setattr(Foreign, "change", change)
    with pytest.raises(DataError, match=said):
        attack_report(Threshold(), batches, [Foreign(eps=0.08, norm=norm)], n_examples=3)


def test_an_attack_that_leaves_the_pixels_range_is_refused(
    batches: TensorBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Foreign, "change", 0.15)
    with pytest.raises(DataError, match=r"pgd-10: made pixels from 0\.85 to 1\.05, not in \[0, 1\]"):
        attack_report(Threshold(), batches, [Foreign(eps=0.2)], n_examples=2)


def test_an_attack_for_transfer_goes_on_after_its_source_is_fooled(batches: TensorBatches) -> None:
    rows = planned_attacks(Threshold(), [PgdConfig()], ReferenceNetwork("other", Threshold()), 2)
    assert [row.attack.stop_when_fooled for row in rows] == [True, False]  # type: ignore[union-attr]


class Killed(BaseException):
    pass


class Dying(PgdConfig):
    """Stands for a process that is killed in its ``batches_left``-th batch from now."""

    batches_left: ClassVar[int] = 10**6
    attacked: ClassVar[list[int]] = []

    def perturb(self, model: nn.Module, images: Tensor, targets: Tensor, indices: Tensor) -> Tensor:
        if type(self).batches_left == 0:
            raise Killed
        type(self).batches_left -= 1
        self.attacked.extend(indices.tolist())
        return super().perturb(model, images, targets, indices)


def test_a_killed_evaluation_goes_on_and_loses_a_batch_at_most(
    batches: TensorBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches.batch_size = 3
    attacks = [
        FgsmConfig(eps=0.03),
        Dying(eps=0.05, steps=3),
        StandardConfig(eps=0.05, apgd_steps=2, n_queries=3),
    ]
    whole = attack_report(Threshold(), batches, attacks, n_examples=10)
    for killed_after in range(3):  # eight images are right: batches of 3, 3, 2
        folder = tmp_path / str(killed_after)
        folder.mkdir()
        monkeypatch.setattr(Dying, "attacked", [])
        monkeypatch.setattr(Dying, "batches_left", killed_after)
        with pytest.raises(Killed):
            attack_report(
                Threshold(), batches, attacks, n_examples=10, partial=PartialResults(folder, key="k")
            )
        assert Dying.attacked == list(range(8))[: 3 * killed_after]
        monkeypatch.setattr(Dying, "batches_left", 10**6)
        partial = PartialResults(folder, key="k")
        assert partial.resumed
        assert attack_report(Threshold(), batches, attacks, n_examples=10, partial=partial) == whole
        assert Dying.attacked == list(range(8))  # each image once


def test_a_stop_keeps_what_is_done(batches: TensorBatches, tmp_path: Path) -> None:
    class Stopping(Watcher):
        asked = 0

        def should_stop(self) -> bool:
            self.asked += 1
            return self.asked == 5  # three batches of the clean pass, after it, after the first batch

    attacks = [PgdConfig(eps=0.05, steps=2)]
    partial = PartialResults(tmp_path, key="k")
    with pytest.raises(Interrupted, match=r"same command goes on"):
        attack_report(Threshold(), batches, attacks, n_examples=10, partial=partial, progress=Stopping())
    again = PartialResults(tmp_path, key="k")
    assert sum(mark != PENDING for mark in again.marks("0/pgd-2", 10).tolist()) == 4
    assert attack_report(Threshold(), batches, attacks, n_examples=10, partial=again) == attack_report(
        Threshold(), batches, attacks, n_examples=10
    )


def test_a_long_attack_tells_how_long_it_will_take(
    batches: TensorBatches, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reader(Watcher):
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []

        def message(self, text: str) -> None:
            self.messages.append(text)

    seconds = itertools.count(step=30.0)
    monkeypatch.setattr(attack_stages.time, "monotonic", lambda: next(seconds))
    watcher = Reader()
    attack_report(Threshold(), batches, [PgdConfig(steps=2)], n_examples=10, progress=watcher)
    # Two batches of four: when the first is done, half of the work has taken 60 s of this clock.
    assert watcher.messages == ["pgd-2: 4 of 8 images; the attacks take at most about 1:00 more"]
