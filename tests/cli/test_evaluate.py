import json
import shutil
from pathlib import Path

import pytest

from kdcam import api
from kdcam.errors import RecipeError
from kdcam.files.digests import weights_file_digest


def test_tables(kdcam, digits_run: Path) -> None:
    found = kdcam("evaluate", digits_run)
    assert found.code == 0
    assert "test part, 497 images" in found.out
    for name in ("acc1", "acc5", "mean_class_acc", "nll", "ece", "confusion matrix"):
        assert name in found.out


def test_json_agrees_with_the_runs_result(kdcam, digits_run: Path) -> None:
    document = json.loads(kdcam("evaluate", digits_run, "--json", "--batch-size", 50).out)
    stored = json.loads((digits_run / "result.json").read_text())["selected"]["test"]
    assert document["acc1"] == stored["acc1"]
    assert document["nll"] == pytest.approx(stored["nll"], rel=1e-5)
    assert document["label_names"] == [str(digit) for digit in range(10)]
    assert sum(map(sum, document["confusion"])) == document["images"] == 497


@pytest.mark.parametrize("part", ["train", "validation"])
def test_other_parts_and_last_weights(kdcam, digits_run: Path, part: str) -> None:
    document = json.loads(kdcam("evaluate", digits_run, "--part", part, "--weights", "last", "--json").out)
    assert document["images"] == {"train": 1170, "validation": 130}[part]


@pytest.fixture
def verified_run(digits_run: Path, tmp_path: Path) -> Path:
    """A run with the headline of a verification of its weights."""
    run = tmp_path / "verified"
    shutil.copytree(digits_run, run)
    model = weights_file_digest(run / "model.safetensors")
    content = {"headline": {"accuracy": 0.875, "eer": 0.125}, "settings": {"flip": True}, "model": model}
    content |= {"pairs": {"sha256": "abc"}, "seen": []}
    (run / "verification.json").write_text(json.dumps(content))
    return run


def test_other_evaluations_of_the_weights_are_below(kdcam, verified_run: Path) -> None:
    found = kdcam("evaluate", verified_run).out
    assert found.index("confusion matrix") < found.index("verification: accuracy")
    assert "87.50%" in found
    assert "verification: equal error rate" in found
    document = json.loads(kdcam("evaluate", verified_run, "--json").out)
    assert document["evaluations"] == {"verification": {"accuracy": 0.875, "eer": 0.125}}


def test_other_evaluations_of_other_weights_are_not_shown(kdcam, verified_run: Path) -> None:
    assert json.loads(kdcam("evaluate", verified_run, "--weights", "last", "--json").out)["evaluations"] == {}
    file = verified_run / "verification.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model": "of others"}))
    found = kdcam("evaluate", verified_run)
    assert "verification" not in found.out
    assert "not shown: verification.json is of other weights than model.safetensors" in found.err


def test_no_run(kdcam, tmp_path: Path) -> None:
    found = kdcam("evaluate", tmp_path)
    assert found.code == 1
    assert str(tmp_path) in found.err
    assert len(found.err.splitlines()) == 1


def test_many_classes_list_the_commonest_confusions(module) -> None:
    from kdcam.scores.classification import ClassificationReport

    confusion = [[0] * 30 for _ in range(30)]
    for index in range(30):
        confusion[index][index] = 5
    confusion[2][7] = 4
    report = ClassificationReport(154, 0.97, 0.99, 0.97, 0.1, 0.01, (1.0,) * 30, tuple(map(tuple, confusion)))
    table = module("evaluate").commonest_confusions(report, [f"class {index}" for index in range(30)])
    assert table.rows == [("class 2", "class 7", "4")]


def test_several_labels_an_image(kdcam, labels_run: Path) -> None:
    found = kdcam("evaluate", labels_run)
    assert found.code == 0
    for name in ("mean_ap", "micro_f1", "macro_f1", "label_acc", "nll", "average precision"):
        assert name in found.out
    assert "decisions at probability 0.5" in found.out
    usual = json.loads(kdcam("evaluate", labels_run, "--json").out)
    assert (usual["threshold"], len(usual["per_class_f1"]), len(usual["per_class_ap"])) == (0.5, 10, 10)
    stored = json.loads((labels_run / "result.json").read_text())["selected"]["test"]
    assert {name: usual[name] for name in stored} == pytest.approx(stored)


def test_a_threshold_moves_the_decisions_alone(kdcam, labels_run: Path) -> None:
    usual, low, high = (
        json.loads(kdcam("evaluate", labels_run, "--threshold", value, "--json").out) for value in (0.5, 0, 1)
    )
    assert usual == json.loads(kdcam("evaluate", labels_run, "--json").out)
    assert low["mean_ap"] == high["mean_ap"] == usual["mean_ap"]
    assert high["micro_f1"] == high["macro_f1"] == 0  # nothing is said to be there
    assert low["label_acc"] == pytest.approx(1 - high["label_acc"])


def test_a_threshold_that_has_no_use_or_is_no_probability(kdcam, digits_run: Path, labels_run: Path) -> None:
    found = kdcam("evaluate", digits_run, "--threshold", 0.3)
    assert found.code == 1
    assert "threshold: found 0.3, but" in found.err
    assert "leave the threshold (--threshold) out" in found.err
    assert kdcam("evaluate", labels_run, "--threshold", 1.5).code == 2
    with pytest.raises(RecipeError, match=r"threshold: found 1\.5; must be a probability, from 0 to 1"):
        api.evaluate(labels_run, threshold=1.5)
