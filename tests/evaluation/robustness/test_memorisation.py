"""Memorised wrong labels, finding them by the loss, and the report that a run's folder gives."""

import json
import math
from pathlib import Path

import pytest
import torch
from small_runs import SCENES, small_recipe
from tensor_batches import TensorBatches
from torch import nn

import kdcam
from kdcam.errors import CheckpointError, DataError, ModelError
from kdcam.evaluation.robustness.memorisation import Memorisation, label_noise_report, memorisation
from kdcam.runs.run_files import read_metrics

CLEAN = torch.tensor([0, 1, 2, 0, 1])
NOISY = torch.tensor([0, 1, 0, 1, 2])
# Logits, given as the images: the last three were given wrong labels.
LOGITS = torch.tensor(
    [[2.0, 0, 0], [0, 1, 3], [0, 0, 4], [0, 1, 0], [1, 0, 0]],
)


def judged(logits: torch.Tensor, clean: torch.Tensor, noisy: torch.Tensor) -> Memorisation:
    return memorisation(nn.Identity(), TensorBatches(logits, noisy, 2), clean, noisy)


def test_by_hand() -> None:
    found = judged(LOGITS, CLEAN, NOISY)
    assert (found.images, found.wrong_labels) == (5, 3)
    assert found.memorised == pytest.approx(1 / 3)  # the fourth
    assert found.recovered == pytest.approx(1 / 3)  # the third
    assert found.clean_label_acc == 0.5
    assert found.overall_noisy_acc == pytest.approx(2 / 5)
    # Losses of the right: 0.24, 2.17; of the wrong: 4.04, 0.55, 1.86. Of six pairs 4.04 wins two, the others one each.
    assert found.wrong_label_auroc == pytest.approx(4 / 6)


def test_a_loss_of_the_label_finds_all_or_none() -> None:
    def sure_of(labels: torch.Tensor) -> torch.Tensor:
        return 5 * nn.functional.one_hot(labels, 3).float()

    knows, believes = judged(sure_of(CLEAN), CLEAN, NOISY), judged(sure_of(NOISY), CLEAN, NOISY)
    assert (knows.wrong_label_auroc, knows.recovered, knows.overall_noisy_acc) == (1.0, 1.0, 0.4)
    # All labels memorised: all losses are equal, and no loss tells them apart.
    assert (believes.wrong_label_auroc, believes.memorised, believes.overall_noisy_acc) == (0.5, 1.0, 1.0)


def test_without_a_wrong_or_a_right_label() -> None:
    none, all_wrong = judged(LOGITS, CLEAN, CLEAN), judged(LOGITS, CLEAN, (CLEAN + 1) % 3)
    assert (none.wrong_labels, none.memorised, none.recovered, none.wrong_label_auroc) == (
        0,
        None,
        None,
        None,
    )
    assert (all_wrong.clean_label_acc, all_wrong.wrong_label_auroc) == (None, None)


def test_labels_of_other_images() -> None:
    with pytest.raises(DataError, match=r"found 5 training images, \(4,\) true and \(5,\) noisy labels"):
        judged(LOGITS, CLEAN[:4], NOISY)


def test_broken_weights() -> None:
    with pytest.raises(ModelError, match=r"memorisation: the logits of 5 of 5 images are not finite"):
        judged(LOGITS * torch.nan, CLEAN, NOISY)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("noise")
    noises = {
        "none": None,
        "zero": {"kind": "pairflip", "rate": 0.0},
        "inclusive": {"kind": "symmetric-inclusive", "rate": 0.5},
    }
    return {
        name: kdcam.train(
            small_recipe(data={**SCENES, **({"noise": noise} if noise else {})}),
            output=folder / name,
            device="cpu",
        ).path
        for name, noise in noises.items()
    }


def test_a_rate_of_zero_trains_as_without_noise(runs: dict[str, Path]) -> None:
    assert (runs["zero"] / "model.safetensors").read_bytes() == (
        runs["none"] / "model.safetensors"
    ).read_bytes()
    report, plain = label_noise_report(runs["zero"]), label_noise_report(runs["none"])
    assert (report.kind, report.nominal_rate, report.realised_rate) == ("pairflip", 0.0, 0.0)
    assert plain == report.model_copy(update={"kind": None})


def test_the_report_of_a_run(runs: dict[str, Path]) -> None:
    folder = runs["inclusive"]
    memorised = judged(LOGITS, CLEAN, NOISY)
    report = label_noise_report(folder, memorised)
    result = json.loads((folder / "result.json").read_text())
    assert report.kind == "symmetric-inclusive"
    assert report.nominal_rate == pytest.approx(0.45)
    assert report.realised_rate == result["label_noise"]["realised_rate"] > 0.2
    assert report.realised_rate * 45 == pytest.approx(round(report.realised_rate * 45))
    assert report.selected_test_acc == result["selected"]["test"]["acc1"]
    assert report.last_test_acc == result["last"]["test"]["acc1"]
    assert (report.selected_epoch, report.last_epoch) == (result["selected"]["epoch"], 2)
    assert report.selection == result["selection"]
    curve = [(point.epoch, point.acc1) for point in report.validation]
    assert curve == [(line["epoch"], line["val"]["acc1"]) for line in read_metrics(folder)]
    assert len(curve) == 2
    assert report.memorisation == memorised
    assert math.isfinite(json.loads(report.model_dump_json())["memorisation"]["wrong_label_auroc"])


def test_a_run_without_test_and_validation_parts(tmp_path: Path) -> None:
    scores = {"epoch": 1, "validation": None, "test": None}
    result = {"selection": "last epoch (1)", "selected": scores, "last": scores, "label_noise": None}
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "val": {}}\n')
    report = label_noise_report(tmp_path)
    assert (report.selected_test_acc, report.last_test_acc, report.validation) == (None, None, ())


def test_files_of_another_form(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"result\.json: cannot be read"):
        label_noise_report(tmp_path)
    result = json.loads((runs["inclusive"] / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**result, "label_noise": 0.4}))
    with pytest.raises(CheckpointError, match=r"not of the form .*its label_noise is 0\.4\); train"):
        label_noise_report(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "val": {"mean_ap": 0.5}}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: a line lacks the accuracy val\.acc1"):
        label_noise_report(tmp_path)
