import json
from pathlib import Path
from typing import Any

import pytest

from kdcam.evaluation.robustness.corruption_report import CorruptionReport
from kdcam.evaluation.robustness.gradient_masking_check import MaskingCheck
from kdcam.evaluation.robustness.robustness_file import CorruptionSection, RobustnessFile
from kdcam.evaluation.robustness.robustness_settings import robustness_evaluation_settings
from kdcam.runs.run_files import ROBUSTNESS_FILE
from kdcam.runtime.progress import Silent


class Reader(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def opened(folder: Path, reader: Reader | None = None, **settings: Any) -> RobustnessFile:
    return RobustnessFile(
        folder,
        network="n",
        weights="selected",
        settings=robustness_evaluation_settings(settings),
        progress=reader or Silent(),
    )


def written(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / ROBUSTNESS_FILE).read_text())
    return document


def corruptions(*severities: int) -> CorruptionSection:
    report = CorruptionReport(
        source="own",
        images=5,
        subset="",
        seed=None,
        severities=severities,
        clean_acc=1.0,
        rows=(),
        mean_error=0.0,
        note="",
    )
    return CorruptionSection(report=report)


def test_each_section_has_the_settings_that_it_was_made_with(tmp_path: Path) -> None:
    none: dict[str, Any] = {"attacks": ["none"]}
    file = opened(tmp_path, **none, corruptions=["fog"], severities="1,2", seed=3)
    file.put("corruptions", "one", corruptions(1, 2))
    file = opened(tmp_path, **none, corrupted_set="/tmp", severities="3,4", n_examples=7)
    file.put("corrupted_set", "two", corruptions(3, 4))
    assert written(tmp_path)["settings"] == {
        "corruptions": {
            "corruptions": ["fog"],
            "severities": [1, 2],
            "n_examples": 1000,
            "seed": 3,
            "base": None,
        },
        "corrupted_set": {"corrupted_set": "/tmp", "severities": [3, 4], "n_examples": 7, "base": None},
    }
    # A section that is asked for with other settings has those of what is there until it is made anew.
    file = opened(tmp_path, corruptions=["jpeg"])
    file.put("label_noise", "three", None)
    assert written(tmp_path)["settings"]["corruptions"]["corruptions"] == ["fog"]


def test_a_dropped_section_leaves_no_settings(tmp_path: Path) -> None:
    check = MaskingCheck(name="a", passed=True, value=0.0, limit=1.0, text="")
    opened(tmp_path).put("checks", "one", (check,))
    assert written(tmp_path)["settings"]["checks"]["budgets"][0]["attacks"] == ["fgsm", "pgd"]
    file = opened(tmp_path, attacks=["fgsm"], checks=False)
    file.drop("checks")
    file.put("label_noise", "two", None)
    assert (written(tmp_path)["checks"], written(tmp_path)["settings"]) == ([], {"label_noise": {}})


@pytest.mark.parametrize("said", [{"severities": [1, 2]}, {"corruptions": ["fog"]}])
def test_settings_of_an_earlier_form_are_not_taken_over(tmp_path: Path, said: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"attacks": ["none"], "corruptions": ["fog"]}
    opened(tmp_path, **asked).put("corruptions", "one", corruptions(1))
    (tmp_path / ROBUSTNESS_FILE).write_text(json.dumps({**written(tmp_path), "settings": said}))
    reader = Reader()
    assert not opened(tmp_path, reader, **asked).has("corruptions", "one")
    assert any("its corruptions are not as kdcam writes them" in text for text in reader.messages)
