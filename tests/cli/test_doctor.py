import json

import pytest

from kdcam import doctor
from kdcam.doctor import Finding


def test_report(kdcam) -> None:
    document = json.loads(kdcam("doctor", "--json").out)
    names = {finding["name"] for finding in document["findings"]}
    assert {"python", "torch", "device", "threads", "torchvision build", "data cache"} <= names


def test_a_problem_exits_with_1_and_says_what_to_do(kdcam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("torch", "problem", "is gone", "install it")])
    found = kdcam("doctor")
    assert found.code == 1
    assert "is gone" in found.out
    assert "-> install it" in found.out
