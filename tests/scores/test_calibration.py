"""Tests of kdcam.scores.calibration."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from torchmetrics.classification import MulticlassCalibrationError

from kdcam.errors import DataError
from kdcam.scores.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    calibration,
    calibration_report,
    fit_temperature,
)
from kdcam.scores.classification import ScoreSums


def sampled(count: int, classes: int, *, sharpness: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return logits and labels drawn from the softmax of logits / ``sharpness``: that is their temperature."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return logits * sharpness, targets


@pytest.mark.parametrize("sharpness", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 7])
def test_errors_are_those_of_torchmetrics(sharpness: float, classes: int) -> None:
    logits, targets = sampled(500, classes, sharpness=sharpness)
    found = calibration(logits, targets)
    for norm, value in (("l1", found.ece), ("max", found.mce)):
        peer = MulticlassCalibrationError(classes, n_bins=15, norm=norm)
        assert value == pytest.approx(float(peer(logits.softmax(1).float(), targets)), abs=1e-5)


def test_brier_nll_and_ece_by_their_formulas() -> None:
    logits, targets = sampled(300, 5, sharpness=2.0)
    found = calibration(logits.float(), targets)
    squares = (logits.softmax(1) - one_hot(targets, 5)).square().sum(1)
    assert found.brier == pytest.approx(float(squares.mean()), abs=1e-6)
    assert found.nll == pytest.approx(float(cross_entropy(logits, targets)), abs=1e-6)
    sums = ScoreSums(5)
    sums.add(logits.float(), targets)
    assert (found.nll, found.ece) == (sums.report().nll, sums.report().ece)


def test_hand_worked() -> None:
    sure = math.log(9.0)  # of two classes: probabilities 0.9 and 0.1
    logits = torch.tensor([[sure, 0.0], [sure, 0.0], [0.0, 0.0], [0.0, sure]])
    found = calibration(logits, torch.tensor([0, 1, 0, 1]))
    assert found.images == 4
    # bin of 0.9: two of three right; bin of 0.5: right
    assert found.ece == pytest.approx((3 * (0.9 - 2 / 3) + 0.5) / 4)
    assert found.mce == pytest.approx(0.5)
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.5 + 0.02) / 4)
    filled = [row for row in found.rows if row.images]
    assert [(row.images, row.accuracy) for row in filled] == [(1, 1.0), (3, pytest.approx(2 / 3))]
    assert [row.confidence for row in filled] == pytest.approx([0.5, 0.9])
    assert [row.lower < 0.9 <= row.upper for row in filled] == [False, True]
    assert {(row.confidence, row.accuracy) for row in found.rows if not row.images} == {(None, None)}


def test_rows_add_up() -> None:
    found = calibration(*sampled(400, 4, sharpness=3.0))
    assert [row.lower for row in found.rows] == [place / 15 for place in range(15)]
    assert [row.upper for row in found.rows[:-1]] == [row.lower for row in found.rows[1:]]
    assert sum(row.images for row in found.rows) == 400
    gaps = [
        row.images * abs(row.accuracy - row.confidence)
        for row in found.rows
        if row.accuracy is not None and row.confidence is not None
    ]
    assert found.ece == pytest.approx(sum(gaps) / 400)


@pytest.mark.parametrize("sharpness", [0.05, 0.5, 1.0, 3.0, 1000.0])
def test_temperature_is_scipys(sharpness: float) -> None:
    logits, targets = sampled(2000, 6, sharpness=sharpness)

    def nll(log_temperature: float) -> float:
        return float(cross_entropy(logits / math.exp(log_temperature), targets))

    wanted = math.exp(minimize_scalar(nll, bounds=(-7, 9), method="bounded", options={"xatol": 1e-8}).x)
    assert fit_temperature(logits, targets) == pytest.approx(wanted, rel=1e-5)
    assert fit_temperature(logits, targets) == pytest.approx(sharpness, rel=0.1)


def test_temperature_does_not_mind_a_shift_and_follows_a_scale() -> None:
    logits, targets = sampled(200, 4, sharpness=2.0)
    found = fit_temperature(logits, targets)
    assert fit_temperature(logits + torch.arange(200.0)[:, None], targets) == pytest.approx(found, rel=1e-9)
    assert fit_temperature(3 * logits, targets) == pytest.approx(3 * found, rel=1e-9)


def test_temperature_is_the_same_far_from_zero() -> None:
    logits, targets = sampled(200, 4, sharpness=2.0)
    coarse = (logits * 2**20).round() / 2**20  # so that the shift is exact
    assert fit_temperature(coarse + 2.0**30, targets) == fit_temperature(coarse, targets)


def test_temperature_stays_within_bounds() -> None:
    logits = torch.eye(3)
    assert fit_temperature(logits, torch.arange(3)) == pytest.approx(LOWEST_TEMPERATURE)
    assert fit_temperature(-logits, torch.arange(3)) == pytest.approx(HIGHEST_TEMPERATURE)


def test_report_before_and_after() -> None:
    logits, targets = sampled(2000, 6, sharpness=3.0)
    found = calibration_report(logits[1000:], targets[1000:], validation=(logits[:1000], targets[:1000]))
    assert found.fitted_on == 1000
    assert found.temperature == fit_temperature(logits[:1000], targets[:1000])
    assert found.before == calibration(logits[1000:], targets[1000:])
    assert found.after is not None
    assert found.after == calibration(logits[1000:] / found.temperature, targets[1000:])
    assert found.after.ece < found.before.ece / 2
    assert found.after.nll < found.before.nll
    alone = calibration_report(logits, targets, validation=None)
    assert (alone.temperature, alone.after, alone.fitted_on) == (None, None, 0)


def test_wrong_shapes_and_no_image() -> None:
    with pytest.raises(DataError, match=r"labels \(4, 3\); it needs \(N, K\) and one label an image"):
        calibration(torch.zeros(4, 3), torch.zeros(4, 3))
    with pytest.raises(DataError, match=r"labels \(5,\)"):
        fit_temperature(torch.zeros(4, 3), torch.zeros(5).long())
    with pytest.raises(DataError, match=r"calibration: the part has no image"):
        calibration(torch.zeros(0, 3), torch.zeros(0).long())
    with pytest.raises(DataError, match=r"found label 3 where the classifier has 3 classes"):
        calibration(torch.zeros(2, 3), torch.tensor([0, 3]))
    with pytest.raises(DataError, match=r"found label 3 where the classifier has 3 classes"):
        fit_temperature(torch.zeros(2, 3), torch.tensor([0, 3]))
