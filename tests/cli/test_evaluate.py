import json
from pathlib import Path

import pytest


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


def test_no_run(kdcam, tmp_path: Path) -> None:
    found = kdcam("evaluate", tmp_path)
    assert found.code == 1
    assert str(tmp_path) in found.err
    assert len(found.err.splitlines()) == 1


def test_many_classes_list_the_commonest_confusions(module) -> None:
    from kdcam.scores import Report

    confusion = [[0] * 30 for _ in range(30)]
    for index in range(30):
        confusion[index][index] = 5
    confusion[2][7] = 4
    report = Report(154, 0.97, 0.99, 0.97, 0.1, 0.01, (1.0,) * 30, tuple(map(tuple, confusion)))
    table = module("evaluate").commonest_confusions(report, [f"class {index}" for index in range(30)])
    assert table.rows == [("class 2", "class 7", "4")]
